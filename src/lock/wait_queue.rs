//! The waiters of one process for one key: first come, first served, whatever instance they are from.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::sync::Arc;

use rustc_hash::FxHashMap;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use crate::model::answer::{Caller, Ticket};
use crate::model::settings::Settings;

/// One call that waits.
pub struct Waiter {
    /// The call, which is answered once.
    pub ticket: Ticket,
    /// The number of the instance that called, unique in its environment.
    pub instance: u32,
    /// The settings that its lock is taken with.
    pub settings: Arc<Settings>,
    /// It was the head, and one of its tries was answered.
    pub has_tried: bool,
    /// Ends its wait when `timeout` is over; dropped with the waiter.
    pub timeout_task: Option<TimeoutTask>,
}

/// The task that ends a wait when its timeout is over. Dropping this aborts it.
pub struct TimeoutTask(pub AbortHandle);

impl Drop for TimeoutTask {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The waiters, in the order in which they came.
#[derive(Default)]
struct Waiters {
    /// By a number that counts up, so that removing one from the middle is cheap.
    by_arrival: BTreeMap<u64, Waiter>,
    /// The numbers, by environment and call.
    arrivals: FxHashMap<(u64, u64), u64>,
    next: u64,
}

/// The local queue for one key. Only its head asks redis.
pub struct WaitQueue {
    /// The key.
    pub key: Arc<str>,
    waiters: RefCell<Waiters>,
    woken: Notify,
    /// How often the key has changed, as far as we know. A report of a change can arrive before the reply that it
    /// outdates. So whoever reads the key compares this before and after.
    changes: Cell<u64>,
    /// Notified after every try that was answered.
    answered: Notify,
}

/// A copy of what serving a queue needs to know of its first waiter.
#[derive(Clone)]
pub struct Head {
    /// Its number in the queue. Never reused, unlike the number of a call.
    pub arrival: u64,
    /// Its call.
    pub call: u64,
    /// Who made it.
    pub caller: Arc<Caller>,
    /// Its instance, see [`Waiter::instance`].
    pub instance: u32,
    /// The settings that its lock is taken with.
    pub settings: Arc<Settings>,
}

impl WaitQueue {
    /// An empty queue.
    #[must_use]
    pub fn new(key: Arc<str>) -> Self {
        Self {
            key,
            waiters: RefCell::default(),
            woken: Notify::new(),
            changes: Cell::new(0),
            answered: Notify::new(),
        }
    }

    /// Adds a waiter at the end. Returns its number, which is never reused.
    pub fn join(&self, waiter: Waiter) -> u64 {
        let mut waiters = self.waiters.borrow_mut();
        let arrival = waiters.next;
        waiters.next += 1;
        waiters.arrivals.insert((waiter.ticket.caller.environment, waiter.ticket.call), arrival);
        waiters.by_arrival.insert(arrival, waiter);
        arrival
    }

    /// Sets the task that ends this waiter's wait.
    pub fn set_timeout_task(&self, arrival: u64, timeout_task: TimeoutTask) {
        if let Some(waiter) = self.waiters.borrow_mut().by_arrival.get_mut(&arrival) {
            waiter.timeout_task = Some(timeout_task);
        }
    }

    /// Waits until this waiter, which was the head, has left. It may consume wake-ups; changes are counted in
    /// [`Self::changes`] all the same.
    pub async fn left(&self, arrival: u64) {
        while self.waiters.borrow().by_arrival.contains_key(&arrival) {
            self.woken().await;
        }
    }

    /// The first waiter.
    #[must_use]
    pub fn head(&self) -> Option<Head> {
        let waiters = self.waiters.borrow();
        waiters.by_arrival.first_key_value().map(|(&arrival, waiter)| Head {
            arrival,
            call: waiter.ticket.call,
            caller: Arc::clone(&waiter.ticket.caller),
            instance: waiter.instance,
            settings: Arc::clone(&waiter.settings),
        })
    }

    /// Notes that a try of the head found the key held. False if the head has left meanwhile: its call's number may be
    /// another's by now.
    pub fn was_tried(&self, head: &Head) -> bool {
        let waits_still = match self.waiters.borrow_mut().by_arrival.get_mut(&head.arrival) {
            Some(waiter) => {
                waiter.has_tried = true;
                true
            }
            None => false,
        };
        self.answered.notify_waiters();
        waits_still
    }

    /// Waits for the reply to this waiter's first try, if it is the head and has none yet. So every waiter that becomes
    /// the head has one try, however short its timeout.
    pub async fn first_try(&self, arrival: u64) {
        let answered = self.answered.notified();
        let is_due = self
            .waiters
            .borrow()
            .by_arrival
            .first_key_value()
            .is_some_and(|(&first, waiter)| first == arrival && !waiter.has_tried);
        if is_due {
            answered.await;
        }
    }

    /// Removes a waiter: the head when it is served, any when its time is up. `None` if it has left before.
    pub fn leave(&self, arrival: u64) -> Option<Waiter> {
        let mut waiters = self.waiters.borrow_mut();
        let waiter = waiters.by_arrival.remove(&arrival)?;
        waiters.arrivals.remove(&(waiter.ticket.caller.environment, waiter.ticket.call));
        if waiters.by_arrival.first_key_value().is_none_or(|(&first, _)| first > arrival) {
            // The new head must not sleep on with the old one's settings.
            self.woken.notify_one();
        }
        Some(waiter)
    }

    /// Removes the waiter of a pending call.
    pub fn leave_by_call(&self, environment: u64, call: u64) -> Option<Waiter> {
        let arrival = self.waiters.borrow().arrivals.get(&(environment, call)).copied()?;
        self.leave(arrival)
    }

    /// Removes every waiter that `fits`.
    pub fn leave_all(&self, fits: impl Fn(&Waiter) -> bool) -> Vec<Waiter> {
        let mut waiters = self.waiters.borrow_mut();
        let (gone, stay): (BTreeMap<_, _>, _) =
            std::mem::take(&mut waiters.by_arrival).into_iter().partition(|(_, waiter)| fits(waiter));
        waiters.by_arrival = stay;
        for waiter in gone.values() {
            waiters.arrivals.remove(&(waiter.ticket.caller.environment, waiter.ticket.call));
        }
        self.woken.notify_one();
        gone.into_values().collect()
    }

    /// Notes that the key has changed, or may have: what was read of it is outdated.
    pub fn changed(&self) {
        self.changes.set(self.changes.get() + 1);
        self.woken.notify_one();
    }

    /// How often the key has changed so far.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.changes.get()
    }

    /// Waits for the next change of the key or of the head. Returns at once if there was one since the last time.
    pub async fn woken(&self) {
        self.woken.notified().await;
    }
}
