//! What belongs to one endpoint: the shared connection, what is held through it, and who waits for what.

use std::cell::{Cell, Ref, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, Notify};
use tokio::time::Instant;

use crate::connection::supervisor::Supervisor;
use crate::lock::attempts::MOST_TRIES_A_SECOND;
use crate::lock::doubtful::Doubtful;
use crate::lock::schedule::Schedule;
use crate::lock::table::{Numbered, Table};
use crate::lock::undo::Undo;
use crate::lock::wait_queue::WaitQueue;
use crate::model::answer::Caller;
use crate::model::endpoint::Endpoint;
use crate::model::lease::{Interval, Lease, Step};
use crate::model::reservation::{Phase, Reservation};
use crate::model::settings::DEFAULT_CONNECT_TIMEOUT;
use crate::time::clock::Moment;
use crate::time::pace::{Pace, Quota};

/// Less than this is too short for a connect across a continent and its handshake.
const SHORTEST_CONNECT: Duration = Duration::from_millis(500);

/// A reservation as its keeper sees it.
pub struct Held {
    /// What its caller sees of it.
    pub reservation: Arc<Reservation>,
    /// Its life on our clock.
    pub lease: Lease,
    /// Who is told of a loss.
    pub caller: Arc<Caller>,
    /// How often in a row the key had gone from holder to holder inside this process when it came here.
    pub hand_overs: u32,
    /// A failed renewal was already told; the next one of the same outage is not.
    pub has_complained: bool,
    /// Its entry in the schedule; [`Moment::NEVER`] if it has none.
    scheduled: Moment,
}

impl Held {
    /// How long after one renewal the next is sent.
    #[must_use]
    pub fn interval(&self) -> Interval {
        self.reservation.settings().terms.interval
    }

    /// True where its lease ends before a renewal is due.
    #[must_use]
    pub fn never_renews(&self) -> bool {
        self.lease.never_renews(self.interval())
    }

    /// What is to be done at `now`. Only what is held is renewed; what could not be released lapses.
    fn step(&self, now: Moment) -> Step {
        match (self.reservation.phase(), self.lease.step(now)) {
            (Phase::Held, step) | (Phase::Unreleased, step @ (Step::Expired | Step::HeldTooLong)) => step,
            _ => Step::Nothing,
        }
    }

    /// When the heartbeat is to look at it again; [`Moment::NEVER`] while a release of it is under way.
    fn next(&self) -> Moment {
        match self.reservation.phase() {
            Phase::Held => self.lease.next(),
            Phase::Unreleased => self.lease.certain_until(),
            _ => Moment::NEVER,
        }
    }
}

impl Numbered for Held {
    fn number(&self) -> u64 {
        self.reservation.id
    }
}

/// One endpoint's state. Owned by the one thread that runs the core, so nothing here is locked.
pub struct EndpointState {
    /// The connection that all of it goes through.
    pub supervisor: Rc<Supervisor>,
    /// What is held, by [`Reservation::id`].
    table: RefCell<Table<Held>>,
    schedule: RefCell<Schedule>,
    /// Rung when the first entry of the schedule is earlier than the heartbeat's sleep, and when there is nobody left for
    /// whom it could beat.
    pub earlier: Rc<Notify>,
    /// What is held, but could not be renewed at its last try, or was not yet on this connection.
    doubtful: RefCell<Doubtful>,
    /// What is to be deleted, and nobody waits for.
    pub undo: Undo,
    /// Held by the one lock that waits for replicas.
    pub replication: Mutex<()>,
    /// Keys that the waiters of this process leave to those of others, and until when.
    turns_of_others: RefCell<HashMap<Arc<str>, Instant>>,
    /// Who waits, by key.
    pub queues: RefCell<HashMap<Arc<str>, Rc<WaitQueue>>>,
    /// How many of them had a try that was not answered, and none since that was.
    pub waiters_in_trouble: Cell<u32>,
    /// How many waiters, and how many renewals, were let try soon in this second.
    soon: Quota,
    renewed_soon: Quota,
    /// Told when what kept waiters from an answer has passed, and how often at most.
    passed: Rc<Notify>,
    passing: Rc<Pace>,
}

impl EndpointState {
    /// A client that opens nothing yet.
    #[must_use]
    pub fn new(endpoint: Arc<Endpoint>) -> Rc<Self> {
        Rc::new(Self {
            supervisor: Supervisor::new(endpoint),
            table: RefCell::default(),
            schedule: RefCell::default(),
            earlier: Rc::default(),
            doubtful: RefCell::default(),
            undo: Undo::default(),
            replication: Mutex::const_new(()),
            turns_of_others: RefCell::default(),
            queues: RefCell::default(),
            waiters_in_trouble: Cell::new(0),
            soon: Quota::default(),
            renewed_soon: Quota::default(),
            passed: Rc::default(),
            passing: Rc::default(),
        })
    }

    /// True while a broken connection must be mended without anybody calling.
    #[must_use]
    pub fn needs_connection(&self) -> bool {
        !self.table.borrow().is_empty() || !self.queues.borrow().is_empty() || self.undo.is_needed()
    }

    /// How long an attempt to mend the connection may take, if it is needed: so short that a lease which is hurt by the
    /// outage has time for more than one, for a connect can hang where the next one would not.
    #[must_use]
    pub fn mending_limit(&self) -> Option<Duration> {
        if !self.needs_connection() {
            return None;
        }
        let table = self.table.borrow();
        let shortest = table.iter().map(|one| one.reservation.settings().command_timeout).min();
        Some(shortest.map_or(DEFAULT_CONNECT_TIMEOUT, |limit| limit.max(SHORTEST_CONNECT)))
    }

    /// Whether a waiter in trouble may try again soon, and not when it is its turn: so many a second may.
    pub fn may_try_soon(&self) -> bool {
        self.soon.take(MOST_TRIES_A_SECOND)
    }

    /// The same of a renewal that was refused for the first time.
    pub fn may_renew_soon(&self) -> bool {
        self.renewed_soon.take(MOST_TRIES_A_SECOND)
    }

    /// Until a waiter has its answer after tries that had none.
    pub async fn trouble_passed(&self) {
        self.passed.notified().await;
    }

    /// A waiter has: all that pause between two tries have the next one now. Once a second, for trouble may come and go.
    pub fn tell_trouble_passed(&self) {
        let passed = Rc::clone(&self.passed);
        self.passing.occasion(move || passed.notify_waiters());
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
        make: impl FnOnce(u64) -> Arc<Reservation>,
    ) -> Arc<Reservation> {
        let mut table = self.table.borrow_mut();
        let held = table.insert(|id| {
            let (reservation, scheduled) = (make(id), Moment::NEVER);
            Held { reservation, lease, caller, hand_overs, has_complained: false, scheduled }
        });
        self.plan(held);
        Arc::clone(&held.reservation)
    }

    /// Looks at a reservation.
    pub fn with<Result>(&self, id: u64, look: impl FnOnce(&Held) -> Result) -> Option<Result> {
        self.table.borrow_mut().get_mut(id).map(|held| look(held))
    }

    /// Changes a reservation, and plans when the heartbeat looks at it again.
    pub fn update(&self, id: u64, change: impl FnOnce(&mut Held)) {
        if let Some(held) = self.table.borrow_mut().get_mut(id) {
            change(held);
            self.plan(held);
        }
    }

    /// Plans for all of them.
    pub fn plan_all(&self) {
        for id in self.find(|_| true) {
            self.update(id.0, |_| {});
        }
    }

    fn plan(&self, held: &mut Held) {
        let (id, when) = (held.reservation.id, held.next());
        if held.scheduled == when {
            return;
        }
        let mut schedule = self.schedule.borrow_mut();
        if held.scheduled != Moment::NEVER {
            schedule.remove(held.scheduled, id);
        }
        held.scheduled = when;
        if when != Moment::NEVER && schedule.insert(when, id) {
            self.earlier.notify_one();
        }
    }

    /// Takes a reservation out, for good.
    pub fn take(&self, id: u64) -> Option<Held> {
        let taken = self.table.borrow_mut().remove(id)?;
        self.schedule.borrow_mut().remove(taken.scheduled, id);
        self.trust(id);
        Some(taken)
    }

    /// The reservations that need attention at `now`, and what for. They are planned anew as if nothing came of it.
    pub fn take_due(&self, now: Moment) -> Vec<(u64, Step)> {
        let due = self.schedule.borrow_mut().take_due(now);
        let mut table = self.table.borrow_mut();
        let step = |id| {
            let held = table.get_mut(id)?;
            held.scheduled = Moment::NEVER;
            Some((id, held.step(now)))
        };
        due.into_iter().filter_map(step).collect()
    }

    /// The key of a reservation; empty for one that is not there.
    #[cfg(test)]
    pub fn key_of(&self, id: u64) -> String {
        self.with(id, |held| held.reservation.key().to_owned()).unwrap_or_default()
    }

    /// When the heartbeat has to look again.
    #[must_use]
    pub fn next_due(&self) -> Option<Moment> {
        self.schedule.borrow().next()
    }

    /// The ids of all that is held and fits, and until when each is certain.
    pub fn find(&self, fits: impl Fn(&Held) -> bool) -> Vec<(u64, Moment)> {
        let table = self.table.borrow();
        table
            .iter()
            .filter(|one| fits(one))
            .map(|one| (one.reservation.id, one.lease.certain_until()))
            .collect()
    }

    /// Whether a reservation is still ours is not known since now. True if it was.
    pub fn doubt(&self, id: u64) -> bool {
        let ttl = self.with(id, |held| held.lease.ttl());
        ttl.is_some_and(|ttl| self.doubtful.borrow_mut().insert(id, ttl))
    }

    /// It is known. True if it was not.
    pub fn trust(&self, id: u64) -> bool {
        self.doubtful.borrow_mut().remove(id)
    }

    /// Those of which it is not known.
    pub fn doubtful(&self) -> Ref<'_, Doubtful> {
        self.doubtful.borrow()
    }
}

impl Drop for EndpointState {
    fn drop(&mut self) {
        // Those who work for it find that it is gone.
        self.earlier.notify_one();
        self.undo.bell().notify_one();
    }
}
