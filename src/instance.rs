//! What one JavaScript instance has in use: its reservations, its pending calls. Lives on its environment's thread.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::holding::{Holding, Phase};

/// A number that nothing else of this process has: for environments and instances alike.
pub fn next_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// What an instance of the class has in use. Shared by its object and by the environment.
pub struct Instance {
    /// Unique in the process.
    pub id: u64,
    /// What it holds by key, as far as its callbacks have been told. One that is lost stays until its event is
    /// delivered.
    held: RefCell<HashMap<Arc<str>, Arc<Holding>>>,
    /// What lapsed and was not told, for the next release to tell.
    lapsed: RefCell<HashMap<Arc<str>, Arc<Holding>>>,
    /// How many of its calls are pending.
    pub pending: Cell<usize>,
    /// Where its object is kept alive, while it holds or waits.
    pub slot: Cell<Option<u32>>,
}

impl Instance {
    /// An instance that uses nothing.
    #[must_use]
    pub fn new() -> Rc<Self> {
        Rc::new(Self {
            id: next_id(),
            held: RefCell::default(),
            lapsed: RefCell::default(),
            pending: Cell::new(0),
            slot: Cell::new(None),
        })
    }

    /// At least one is held, and every one is certain at this very instant.
    pub fn holds_for_certain(&self) -> bool {
        let held = self.held.borrow();
        !held.is_empty() && held.values().all(|holding| holding.is_certain())
    }

    /// This key is held, and certain at this very instant.
    pub fn holds(&self, key: &str) -> bool {
        self.held.borrow().get(key).is_some_and(|holding| holding.is_certain())
    }

    /// What there is to release: the one of a key, or all.
    pub fn to_release(&self, key: Option<&str>) -> Vec<Arc<Holding>> {
        let (held, lapsed) = (self.held.borrow(), self.lapsed.borrow());
        match key {
            Some(key) => held.get(key).or_else(|| lapsed.get(key)).into_iter().cloned().collect(),
            None => held.values().chain(lapsed.values()).cloned().collect(),
        }
    }

    /// What there is to renew.
    pub fn to_renew(&self) -> Vec<Arc<Holding>> {
        self.held.borrow().values().filter(|holding| holding.phase() == Phase::Held).cloned().collect()
    }

    /// It holds something, or has a call pending: its object must stay alive.
    #[must_use]
    pub fn is_in_use(&self) -> bool {
        self.pending.get() > 0 || !self.held.borrow().is_empty()
    }

    /// It has come to hold this.
    pub fn acquire(&self, holding: Arc<Holding>) {
        // What lapsed under this key is superseded.
        self.lapsed.borrow_mut().remove(&holding.key);
        self.held.borrow_mut().insert(Arc::clone(&holding.key), holding);
    }

    /// Takes in what has become of a reservation.
    pub fn follow(&self, holding: &Arc<Holding>) {
        let has_lapsed = holding.has_lapsed();
        if !has_lapsed && holding.phase() != Phase::Over {
            return;
        }
        // Another acquisition of the same key may have taken its place.
        let is_it = |there: &Arc<Holding>| there.id == holding.id;
        let (mut held, mut lapsed) = (self.held.borrow_mut(), self.lapsed.borrow_mut());
        if held.get(&holding.key).is_some_and(is_it) {
            held.remove(&holding.key);
            if has_lapsed {
                lapsed.insert(Arc::clone(&holding.key), Arc::clone(holding));
            }
        } else if !has_lapsed && lapsed.get(&holding.key).is_some_and(is_it) {
            lapsed.remove(&holding.key);
        }
    }
}
