//! The state of one endpoint: the shared connection, the reservations held through it, and the waiters.

use std::cell::{Cell, Ref, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, Notify};
use tokio::time::Instant;

use crate::connection::supervisor::Supervisor;
use crate::lock::attempts::MAX_TRIES_A_SECOND;
use crate::lock::doubtful::Doubtful;
use crate::lock::schedule::Schedule;
use crate::lock::table::{Numbered, Table};
use crate::lock::undo::Undo;
use crate::lock::wait_queue::WaitQueue;
use crate::lock::watched::{Watch, Watches};
use crate::model::answer::Caller;
use crate::model::endpoint::Endpoint;
use crate::model::lease::{Interval, Lease, Step};
use crate::model::reservation::{Phase, Reservation};
use crate::model::settings::DEFAULT_CONNECT_TIMEOUT;
use crate::time::clock::Moment;
use crate::time::pace::{Pace, Quota};

/// A shorter limit leaves no time to connect across a continent and log in.
const MIN_CONNECT_TIMEOUT: Duration = Duration::from_millis(500);

/// A map by key. Its order is random, but for tests, in which the same seed must give the same order.
#[cfg(not(test))]
pub type KeyMap<T> = HashMap<Arc<str>, T>;
/// The same in a fixed order.
#[cfg(test)]
pub type KeyMap<T> = HashMap<Arc<str>, T, std::hash::BuildHasherDefault<rustc_hash::FxHasher>>;

/// A reservation, with what only the core's thread needs.
pub struct Held {
    /// The part that its caller's thread sees.
    pub reservation: Arc<Reservation>,
    /// Its lease.
    pub lease: Lease,
    /// Who is told of a loss.
    pub caller: Arc<Caller>,
    /// Consecutive in-process hand-overs before this reservation.
    pub hand_overs: u32,
    /// A failed renewal was reported, and none has succeeded since. Further failures are not reported.
    pub has_complained: bool,
    /// The watch on its key.
    pub watch: Watch,
    /// When the schedule has it; [`Moment::NEVER`] if it does not.
    scheduled: Moment,
}

impl Held {
    /// How long after a renewal the next is sent.
    #[must_use]
    pub fn interval(&self) -> Interval {
        self.reservation.settings().terms.interval
    }

    /// True if its lease ends before a renewal is due.
    #[must_use]
    pub fn never_renews(&self) -> bool {
        self.lease.never_renews(self.interval())
    }

    /// What it needs at `now`. Only what is held is renewed; after a failed release it lapses.
    fn step(&self, now: Moment) -> Step {
        match (self.reservation.phase(), self.lease.step(now)) {
            (Phase::Held, Step::Nothing) if now >= self.watch.next => Step::Look,
            (Phase::Held, step) | (Phase::Unreleased, step @ (Step::Expired | Step::HeldTooLong)) => step,
            _ => Step::Nothing,
        }
    }

    /// When the heartbeat must look at it next; [`Moment::NEVER`] while a release is pending.
    fn next(&self) -> Moment {
        match self.reservation.phase() {
            Phase::Held => self.lease.next().min(self.watch.next),
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

/// The state of one endpoint. Only the core's thread uses it, so it needs no locks.
pub struct EndpointState {
    /// The shared connection.
    pub supervisor: Rc<Supervisor>,
    /// The reservations, by [`Reservation::id`].
    table: RefCell<Table<Held>>,
    schedule: RefCell<Schedule>,
    /// Notified when the heartbeat must wake earlier than it planned, and when this is dropped.
    pub earlier: Rc<Notify>,
    /// Reservations whose last renewal failed, and those not yet renewed on this connection.
    doubtful: RefCell<Doubtful>,
    /// The watches on the keys of reservations.
    pub watches: Watches,
    /// Values to delete that no call waits for.
    pub undo: Undo,
    /// Locked by the one lock that waits for replicas.
    pub replication: Mutex<()>,
    /// Keys that this process leaves to waiters of other processes, and until when.
    turns_of_others: RefCell<KeyMap<Instant>>,
    /// The wait queues, by key.
    pub queues: RefCell<KeyMap<Rc<WaitQueue>>>,
    /// How many waiters back off: they had a try without a usable reply, and none with one since.
    pub waiters_backing_off: Cell<u32>,
    /// How many waiters were allowed to retry soon in this second.
    soon: Quota,
    /// The same of renewals.
    renewed_soon: Quota,
    /// Notified when a waiter that backed off has its reply; once a second at most.
    recovery: Rc<Notify>,
    recovery_pace: Rc<Pace>,
}

impl EndpointState {
    /// The state of an endpoint. Opens nothing.
    #[must_use]
    pub fn new(endpoint: Arc<Endpoint>) -> Rc<Self> {
        Rc::new(Self {
            supervisor: Supervisor::new(endpoint),
            table: RefCell::default(),
            schedule: RefCell::default(),
            earlier: Rc::default(),
            doubtful: RefCell::default(),
            watches: Watches::default(),
            undo: Undo::default(),
            replication: Mutex::const_new(()),
            turns_of_others: RefCell::default(),
            queues: RefCell::default(),
            waiters_backing_off: Cell::new(0),
            soon: Quota::default(),
            renewed_soon: Quota::default(),
            recovery: Rc::default(),
            recovery_pace: Rc::default(),
        })
    }

    /// True while a broken connection must be made again even if nobody calls.
    #[must_use]
    pub fn needs_connection(&self) -> bool {
        !self.table.borrow().is_empty() || !self.queues.borrow().is_empty() || self.undo.is_needed()
    }

    /// How many reservations there are.
    #[must_use]
    pub fn count(&self) -> u32 {
        u32::try_from(self.table.borrow().len()).unwrap_or(u32::MAX)
    }

    /// How long an attempt to reconnect may take, after so many that have timed out; `None` if no connection is needed.
    /// So short that a lease which suffers from the outage has time for more than one attempt: a connect can hang where
    /// the next one would not. But a server may be so far away that none succeeds in that time, so every other attempt
    /// has twice the time of the last such one, up to `connect_timeout`.
    #[must_use]
    pub fn mending_limit(&self, timeouts: u32) -> Option<Duration> {
        if !self.needs_connection() {
            return None;
        }
        let table = self.table.borrow();
        let settings = || table.iter().map(|one| one.reservation.settings());
        let Some(shortest) = settings().map(|one| one.command_timeout).min() else {
            return Some(DEFAULT_CONNECT_TIMEOUT);
        };
        let short = shortest.max(MIN_CONNECT_TIMEOUT);
        let longest = settings().map(|one| one.connect_timeout).fold(short, Duration::max);
        let doublings = if timeouts.is_multiple_of(2) { 0 } else { timeouts.div_ceil(2) };
        Some(short.saturating_mul(2_u32.saturating_pow(doublings)).min(longest))
    }

    /// True if a waiter that backs off may retry soon, instead of waiting for its turn. So many a second may.
    pub fn may_try_soon(&self) -> bool {
        self.soon.take(MAX_TRIES_A_SECOND)
    }

    /// The same for a renewal that failed for the first time.
    pub fn may_renew_soon(&self) -> bool {
        self.renewed_soon.take(MAX_TRIES_A_SECOND)
    }

    /// Waits until a waiter that backed off has its reply.
    pub async fn recovered(&self) {
        self.recovery.notified().await;
    }

    /// A waiter that backed off has its reply: all others retry now. Once a second at most, because failures may come and
    /// go.
    pub fn notify_recovered(&self) {
        let recovery = Rc::clone(&self.recovery);
        self.recovery_pace.occasion(move || recovery.notify_waiters());
    }

    /// Tells the queue of a key that the key has changed: what was read of it may be outdated.
    pub fn changed(&self, key: &str) {
        if let Some(queue) = self.queues.borrow().get(key) {
            queue.changed();
        }
    }

    /// Tells every queue that its key may have changed.
    pub fn all_changed(&self) {
        for queue in self.queues.borrow().values() {
            queue.changed();
        }
    }

    /// Leaves a key to waiters of other processes until `end`.
    pub fn start_turn_of_others(&self, key: &str, end: Instant) {
        let mut turns = self.turns_of_others.borrow_mut();
        turns.retain(|_, end| *end > Instant::now());
        turns.insert(key.into(), end);
    }

    /// Until when a key is left to other processes; `None` if it is not.
    pub fn turn_of_others(&self, key: &str) -> Option<Instant> {
        self.turns_of_others.borrow().get(key).copied().filter(|end| *end > Instant::now())
    }

    /// Adds a new reservation; `make` gets its id.
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
            let watch = Watch::begin(Moment::now());
            Held { reservation, lease, caller, hand_overs, has_complained: false, watch, scheduled }
        });
        self.plan(held);
        Arc::clone(&held.reservation)
    }

    /// Reads a reservation.
    pub fn with<Result>(&self, id: u64, look: impl FnOnce(&Held) -> Result) -> Option<Result> {
        self.table.borrow_mut().get_mut(id).map(|held| look(held))
    }

    /// Changes a reservation, and schedules it anew.
    pub fn update(&self, id: u64, change: impl FnOnce(&mut Held)) {
        if let Some(held) = self.table.borrow_mut().get_mut(id) {
            change(held);
            self.plan(held);
        }
    }

    /// Schedules all of them anew.
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

    /// Removes a reservation.
    pub fn take(&self, id: u64) -> Option<Held> {
        let taken = self.table.borrow_mut().remove(id)?;
        self.schedule.borrow_mut().remove(taken.scheduled, id);
        self.trust(id);
        self.watches.remove(taken.reservation.key(), id);
        Some(taken)
    }

    /// The reservations that need attention at `now`, and what they need. They are off the schedule until they are
    /// updated.
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

    /// The key of a reservation; empty if there is none.
    #[cfg(test)]
    pub fn key_of(&self, id: u64) -> String {
        self.with(id, |held| held.reservation.key().to_owned()).unwrap_or_default()
    }

    /// When the heartbeat must look next.
    #[must_use]
    pub fn next_due(&self) -> Option<Moment> {
        self.schedule.borrow().next()
    }

    /// The ids of all reservations that match, and until when each is certain.
    pub fn find(&self, fits: impl Fn(&Held) -> bool) -> Vec<(u64, Moment)> {
        let table = self.table.borrow();
        table
            .iter()
            .filter(|one| fits(one))
            .map(|one| (one.reservation.id, one.lease.certain_until()))
            .collect()
    }

    /// Marks a reservation as doubtful: it may be lost. True if it was not doubtful before.
    pub fn doubt(&self, id: u64) -> bool {
        let ttl = self.with(id, |held| held.lease.ttl());
        ttl.is_some_and(|ttl| self.doubtful.borrow_mut().insert(id, ttl))
    }

    /// Removes that mark. True if there was one.
    pub fn trust(&self, id: u64) -> bool {
        self.doubtful.borrow_mut().remove(id)
    }

    /// The doubtful reservations.
    pub fn doubtful(&self) -> Ref<'_, Doubtful> {
        self.doubtful.borrow()
    }
}

impl Drop for EndpointState {
    fn drop(&mut self) {
        // The tasks that serve this find it gone.
        self.earlier.notify_one();
        self.undo.wakeup().notify_one();
    }
}
