//! What belongs to one endpoint: the shared connection, what is held through it, and who waits for what.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, Notify};
use tokio::time::Instant;

use crate::clock::Moment;
use crate::endpoint::Endpoint;
use crate::held::{Held, Numbered};
use crate::holding::Holding;
use crate::lease::{Lease, Step};
use crate::link::Link;
use crate::outlet::Caller;
use crate::queue::Queue;
use crate::schedule::Schedule;
use crate::settings::DEFAULT_CONNECT_TIMEOUT;

/// Less than this is too short for a connect across a continent and its handshake.
const SHORTEST_CONNECT: Duration = Duration::from_millis(500);

/// A reservation as its keeper sees it.
pub struct Reservation {
    /// What its caller sees of it.
    pub holding: Arc<Holding>,
    /// Its life on our clock.
    pub lease: Lease,
    /// Who is told of a loss.
    pub caller: Arc<Caller>,
    /// How often in a row the key had gone from holder to holder inside this process when it came here.
    pub hand_overs: u32,
    /// A release is under way: nobody else may end it.
    pub releasing: bool,
    /// A failed renewal was already told; the next one of the same outage is not.
    pub complained: bool,
    /// Its entry in the schedule; [`Moment::NEVER`] if it has none.
    scheduled: Moment,
}

impl Reservation {
    /// How long after one renewal the next is sent.
    #[must_use]
    pub fn interval(&self) -> Option<Duration> {
        self.holding.settings().terms.interval
    }

    /// True where its lease ends before a renewal is due.
    #[must_use]
    pub fn never_renews(&self) -> bool {
        self.lease.never_renews(self.interval())
    }
}

impl Numbered for Reservation {
    fn number(&self) -> u64 {
        self.holding.id
    }
}

/// When the heartbeat looks at a reservation again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// When it was going to.
    AsPlanned,
    /// Then, and not when it was going to.
    At(Moment),
    /// Not by itself.
    Never,
}

/// One endpoint's state. Owned by the one thread that runs the core, so nothing here is locked.
pub struct Client {
    /// The connection that all of it goes through.
    pub link: Rc<Link>,
    /// What is held, by [`Holding::id`].
    held: RefCell<Held<Reservation>>,
    schedule: RefCell<Schedule>,
    /// Rung when the first entry of the schedule is earlier than the heartbeat's sleep.
    pub earlier: Notify,
    /// A heartbeat task is running.
    pub beating: Cell<bool>,
    /// How many of what is held could not be renewed at their last try.
    pub failing: Cell<u32>,
    /// When all of them were last tried at once.
    pub retried: Cell<Option<Instant>>,
    /// A task that mends the connection is running.
    pub healing: Cell<bool>,
    /// Held by the one lock that waits for replicas.
    pub replication: Mutex<()>,
    /// Keys that the waiters of this process leave to those of others, and until when.
    turns_of_others: RefCell<HashMap<Arc<str>, Instant>>,
    /// Who waits, by key.
    pub queues: RefCell<HashMap<Arc<str>, Rc<Queue>>>,
}

impl Client {
    /// A client that opens nothing yet.
    #[must_use]
    pub fn new(endpoint: Arc<Endpoint>) -> Rc<Self> {
        Rc::new(Self {
            link: Link::new(endpoint),
            held: RefCell::default(),
            schedule: RefCell::default(),
            earlier: Notify::new(),
            beating: Cell::new(false),
            failing: Cell::new(0),
            retried: Cell::new(None),
            healing: Cell::new(false),
            replication: Mutex::const_new(()),
            turns_of_others: RefCell::default(),
            queues: RefCell::default(),
        })
    }

    /// True while a broken connection must be mended without anybody calling.
    #[must_use]
    pub fn needs_connection(&self) -> bool {
        !self.held.borrow().is_empty() || !self.queues.borrow().is_empty()
    }

    /// How long an attempt to mend the connection may take: so short that a lease which is hurt by the outage has time
    /// for more than one, for a connect can hang where the next one would not.
    #[must_use]
    pub fn mending_limit(&self) -> Duration {
        let held = self.held.borrow();
        let shortest = held.iter().map(|one| one.holding.settings().command_timeout).min();
        shortest.map_or(DEFAULT_CONNECT_TIMEOUT, |limit| limit.max(SHORTEST_CONNECT))
    }

    /// Tells the queue for a key that the key has changed: what was read of it may no longer be so.
    pub fn changed(&self, key: &str) {
        if let Some(queue) = self.queues.borrow().get(key) {
            queue.changed();
        }
    }

    /// Tells all queues that their keys may have changed.
    pub fn all_changed(&self) {
        for queue in self.queues.borrow().values() {
            queue.changed();
        }
    }

    /// It is the turn of other processes at a key until `end`.
    pub fn start_turn_of_others(&self, key: &str, end: Instant) {
        let mut turns = self.turns_of_others.borrow_mut();
        turns.retain(|_, end| *end > Instant::now());
        turns.insert(key.into(), end);
    }

    /// The end of the turn of other processes at a key, if there is one.
    pub fn turn_of_others(&self, key: &str) -> Option<Instant> {
        self.turns_of_others.borrow().get(key).copied().filter(|end| *end > Instant::now())
    }

    /// Adds what was just acquired; `make` gets its id.
    pub fn keep(
        &self,
        lease: Lease,
        caller: Arc<Caller>,
        hand_overs: u32,
        make: impl FnOnce(u64) -> Arc<Holding>,
    ) -> Arc<Holding> {
        let mut held = self.held.borrow_mut();
        let reservation = held.insert(|id| {
            let (holding, scheduled) = (make(id), Moment::NEVER);
            Reservation { holding, lease, caller, hand_overs, releasing: false, complained: false, scheduled }
        });
        Arc::clone(&reservation.holding)
    }

    /// Looks at a reservation, and may change it.
    pub fn with<Result>(&self, id: u64, look: impl FnOnce(&mut Reservation) -> Result) -> Option<Result> {
        self.held.borrow_mut().get_mut(id).map(look)
    }

    /// Looks at a reservation, may change it, and plans when the heartbeat looks at it again.
    pub fn update(&self, id: u64, change: impl FnOnce(&mut Reservation) -> Next) {
        let mut held = self.held.borrow_mut();
        let Some(reservation) = held.get_mut(id) else { return };
        let when = match change(reservation) {
            Next::AsPlanned => return,
            Next::At(when) => when,
            Next::Never => Moment::NEVER,
        };
        if reservation.scheduled == when {
            return;
        }
        let mut schedule = self.schedule.borrow_mut();
        if reservation.scheduled != Moment::NEVER {
            schedule.remove(reservation.scheduled, id);
        }
        reservation.scheduled = when;
        if when != Moment::NEVER && schedule.insert(when, id) {
            self.earlier.notify_one();
        }
    }

    /// Takes a reservation out, for good.
    pub fn take(&self, id: u64) -> Option<Reservation> {
        self.update(id, |_| Next::Never);
        let taken = self.held.borrow_mut().remove(id)?;
        if taken.complained {
            self.failing.set(self.failing.get().saturating_sub(1));
        }
        Some(taken)
    }

    /// The reservations that need attention at `now`, and what for; their entries in the schedule are used up.
    pub fn take_due(&self, now: Moment) -> Vec<(u64, Step)> {
        let due = self.schedule.borrow_mut().take_due(now);
        let mut held = self.held.borrow_mut();
        let step = |id| {
            let reservation = held.get_mut(id)?;
            reservation.scheduled = Moment::NEVER;
            Some((id, reservation.lease.step(now)))
        };
        due.into_iter().filter_map(step).collect()
    }

    /// True while nothing is held, and so nothing can need attention.
    #[must_use]
    pub fn holds_nothing(&self) -> bool {
        self.held.borrow().is_empty()
    }

    /// When the heartbeat has to look again.
    #[must_use]
    pub fn next_due(&self) -> Option<Moment> {
        self.schedule.borrow().next()
    }

    /// The ids of all that is held and fits.
    pub fn find(&self, fits: impl Fn(&Reservation) -> bool) -> Vec<u64> {
        self.held.borrow().iter().filter(|one| fits(one)).map(|one| one.holding.id).collect()
    }
}
