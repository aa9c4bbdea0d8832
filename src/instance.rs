//! What one JavaScript instance has in use: its reservations, its pending calls. Lives on its environment's thread.

use std::borrow::Borrow;
use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::hash::{Hash, Hasher};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::holding::{Holding, Phase};

/// A number that nothing else of this process has: for environments and instances alike.
pub fn next_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Reservations, found by their keys. Most instances hold one, some hold a hundred thousand.
enum Holdings {
    /// So few that looking at each is quicker than a map, and that a map would be larger than what is in it.
    Few(Vec<Arc<Holding>>),
    Many(HashSet<ByKey>),
}

/// The most that are kept without a map.
const FEW: usize = 8;

/// A reservation that stands for its key.
struct ByKey(Arc<Holding>);

impl Borrow<str> for ByKey {
    fn borrow(&self) -> &str {
        self.0.key()
    }
}

impl PartialEq for ByKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.key() == other.0.key()
    }
}

impl Eq for ByKey {}

impl Hash for ByKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.key().hash(state);
    }
}

impl Default for Holdings {
    fn default() -> Self {
        Self::Few(Vec::new())
    }
}

impl Holdings {
    fn is_empty(&self) -> bool {
        match self {
            Self::Few(few) => few.is_empty(),
            Self::Many(many) => many.is_empty(),
        }
    }

    fn iter(&self) -> Box<dyn Iterator<Item = &Arc<Holding>> + '_> {
        match self {
            Self::Few(few) => Box::new(few.iter()),
            Self::Many(many) => Box::new(many.iter().map(|ByKey(holding)| holding)),
        }
    }

    fn get(&self, key: &str) -> Option<&Arc<Holding>> {
        match self {
            Self::Few(few) => few.iter().find(|holding| holding.key() == key),
            Self::Many(many) => many.get(key).map(|ByKey(holding)| holding),
        }
    }

    /// Puts one in, in the place of any other of its key.
    fn insert(&mut self, holding: Arc<Holding>) {
        match self {
            Self::Many(many) => drop(many.replace(ByKey(holding))),
            Self::Few(few) => {
                few.retain(|other| other.key() != holding.key());
                few.push(holding);
                if few.len() > FEW {
                    *self = Self::Many(few.drain(..).map(ByKey).collect());
                }
            }
        }
    }

    fn remove(&mut self, key: &str) {
        match self {
            Self::Few(few) => few.retain(|holding| holding.key() != key),
            Self::Many(many) => drop(many.take(key)),
        }
    }
}

/// What an instance of the class has in use. Shared by its object and by the environment.
pub struct Instance {
    /// Unique in the process.
    pub id: u64,
    /// What it holds, as far as its callbacks have been told. One that is lost stays until its event is
    /// delivered.
    held: RefCell<Holdings>,
    /// What lapsed and was not told, for the next release to tell.
    lapsed: RefCell<Holdings>,
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
        !held.is_empty() && held.iter().all(|holding| holding.is_certain())
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
            None => held.iter().chain(lapsed.iter()).cloned().collect(),
        }
    }

    /// What there is to renew.
    pub fn to_renew(&self) -> Vec<Arc<Holding>> {
        self.held.borrow().iter().filter(|holding| holding.phase() == Phase::Held).cloned().collect()
    }

    /// It holds something, or has a call pending: its object must stay alive.
    #[must_use]
    pub fn is_in_use(&self) -> bool {
        self.pending.get() > 0 || !self.held.borrow().is_empty()
    }

    /// It has come to hold this.
    pub fn acquire(&self, holding: Arc<Holding>) {
        // What lapsed under this key is superseded.
        self.lapsed.borrow_mut().remove(holding.key());
        self.held.borrow_mut().insert(holding);
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
        if held.get(holding.key()).is_some_and(is_it) {
            held.remove(holding.key());
            if has_lapsed {
                lapsed.insert(Arc::clone(holding));
            }
        } else if !has_lapsed && lapsed.get(holding.key()).is_some_and(is_it) {
            lapsed.remove(holding.key());
        }
    }
}
