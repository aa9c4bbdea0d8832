//! The waiters of one process for one key: first come, first served, whichever instance they came from.

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
    /// The call, to be answered once.
    pub ticket: Ticket,
    /// The instance that made it: of the calls that wait in one environment, those with the same number are of the same.
    pub instance: u32,
    /// What its lock is to be taken with.
    pub settings: Arc<Settings>,
    /// It was first once, and its attempt was answered.
    pub has_tried: bool,
    /// What ends its wait, where that has a limit; goes when it goes.
    pub alarm: Option<Alarm>,
}

/// A task that ends a wait when its time is up. Dropping it ends the task.
pub struct Alarm(pub AbortHandle);

impl Drop for Alarm {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The waiters in the order in which they came.
#[derive(Default)]
struct Line {
    /// By a number that counts up; so one that leaves from the middle costs no walk.
    by_arrival: BTreeMap<u64, Waiter>,
    /// The numbers, by environment and call.
    arrivals: FxHashMap<(u64, u64), u64>,
    next: u64,
}

/// The local queue for one key. Only its head asks redis.
pub struct WaitQueue {
    /// The key.
    pub key: Arc<str>,
    waiters: RefCell<Line>,
    woken: Notify,
    /// How often the key has changed, as far as we were told. A change can be told before the answer arrives that it
    /// makes worthless: whoever looks at the key compares this with what it was before.
    changes: Cell<u64>,
    /// Told of every attempt that was answered.
    answered: Notify,
}

/// What the task that serves a queue needs to know of its head.
#[derive(Clone)]
pub struct Head {
    /// Its place. Numbers of calls are given again to others once they are answered, these are not.
    pub arrival: u64,
    /// The head's call.
    pub call: u64,
    /// Who made it.
    pub caller: Arc<Caller>,
    /// The instance, as for [`Waiter::instance`].
    pub instance: u32,
    /// What its lock is to be taken with.
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

    /// Joins at the end. Gives its place, which is never another's.
    pub fn join(&self, waiter: Waiter) -> u64 {
        let mut line = self.waiters.borrow_mut();
        let arrival = line.next;
        line.next += 1;
        line.arrivals.insert((waiter.ticket.caller.environment, waiter.ticket.call), arrival);
        line.by_arrival.insert(arrival, waiter);
        arrival
    }

    /// The wait of this place has a limit.
    pub fn set_alarm(&self, arrival: u64, alarm: Alarm) {
        if let Some(waiter) = self.waiters.borrow_mut().by_arrival.get_mut(&arrival) {
            waiter.alarm = Some(alarm);
        }
    }

    /// Until the waiter of this place, which was first, has left. What else wakes the queue meanwhile is counted in
    /// [`Self::changes`].
    pub async fn left(&self, arrival: u64) {
        while self.waiters.borrow().by_arrival.contains_key(&arrival) {
            self.woken().await;
        }
    }

    /// Who is first.
    #[must_use]
    pub fn head(&self) -> Option<Head> {
        let line = self.waiters.borrow();
        line.by_arrival.first_key_value().map(|(&arrival, waiter)| Head {
            arrival,
            call: waiter.ticket.call,
            caller: Arc::clone(&waiter.ticket.caller),
            instance: waiter.instance,
            settings: Arc::clone(&waiter.settings),
        })
    }

    /// An attempt of the head was answered: it was held. False if the head has left meanwhile: the number of its call may
    /// be another's by now.
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

    /// Until the first attempt of a waiter is answered, if it is first and has none behind it. Every waiter that is first
    /// has one, however short its time.
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

    /// Takes one out: the head when it is served, any when its time is up. `None` if it left before.
    pub fn leave(&self, arrival: u64) -> Option<Waiter> {
        let mut line = self.waiters.borrow_mut();
        let waiter = line.by_arrival.remove(&arrival)?;
        line.arrivals.remove(&(waiter.ticket.caller.environment, waiter.ticket.call));
        if line.by_arrival.first_key_value().is_none_or(|(&first, _)| first > arrival) {
            // Whoever is first now may have been asleep with its own settings.
            self.woken.notify_one();
        }
        Some(waiter)
    }

    /// Takes out the waiter of a call that waits now.
    pub fn leave_by_call(&self, environment: u64, call: u64) -> Option<Waiter> {
        let arrival = self.waiters.borrow().arrivals.get(&(environment, call)).copied()?;
        self.leave(arrival)
    }

    /// Takes all out that fit.
    pub fn leave_all(&self, fits: impl Fn(&Waiter) -> bool) -> Vec<Waiter> {
        let mut line = self.waiters.borrow_mut();
        let (gone, stay): (BTreeMap<_, _>, _) =
            std::mem::take(&mut line.by_arrival).into_iter().partition(|(_, waiter)| fits(waiter));
        line.by_arrival = stay;
        for waiter in gone.values() {
            line.arrivals.remove(&(waiter.ticket.caller.environment, waiter.ticket.call));
        }
        self.woken.notify_one();
        gone.into_values().collect()
    }

    /// The key has changed, or may have: what was read of it is worthless.
    pub fn changed(&self) {
        self.changes.set(self.changes.get() + 1);
        self.woken.notify_one();
    }

    /// How often the key has changed so far.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.changes.get()
    }

    /// Until the key or the head has changed; at once if one did since the last.
    pub async fn woken(&self) {
        self.woken.notified().await;
    }
}
