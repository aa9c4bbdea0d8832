//! Serves the waiters of one key. The head of the local queue asks redis; the others wait for their turn.
//!
//! What wakes the head: the server's word that the key has changed, the end of the ttl that it saw, a release inside
//! this process, and behind all of it a poll each second.

use std::collections::HashSet;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use crate::lock::acquire::{Attempt, Purpose, Sight, acquire};
use crate::lock::endpoint_state::EndpointState;
use crate::lock::renew;
use crate::lock::undo;
use crate::lock::wait_queue::{Alarm, Head, WaitQueue, Waiter};
use crate::model::answer::{Event, Ticket};
use crate::model::error::Error;
use crate::model::refusal::Class;
use crate::model::settings::Settings;

/// Between two polls of a waiter that nothing wakes: as 0.4.0, but jittered.
const POLL: Duration = Duration::from_secs(1);

/// Polls of one connection while the server tells of changes: the polls of 100,000 waiters are only the safety net.
/// With what is not a poll they stay below 1,000.
const MOST_POLLS_A_SECOND: u32 = 900;

/// Looks at a key that follow one another this closely and find it held are spaced out.
const CLOSE: Duration = Duration::from_millis(20);

/// The longest that a look is held back while the key does change.
const LONGEST_PAUSE: Duration = Duration::from_millis(4);

/// How long this process leaves a key alone when it is the turn of others: longer than they hold back a look.
const TURN_OF_OTHERS: Duration = Duration::from_millis(6);

/// A look in vain is held back this long at least, once enough have been.
const SHORTEST_IN_VAIN: Duration = Duration::from_millis(64);

/// The runtime's timers ring up to this late.
const TIMER: Duration = Duration::from_millis(1);

/// Two ends of a ttl this close are one: each was counted from when its answer came.
const SAME: Duration = Duration::from_millis(20);

/// Joins the queue for a resource. It is left when the lock is had, when `timeout` is over, or by [`cancel`].
pub fn wait(
    state: &Rc<EndpointState>,
    ticket: Ticket,
    instance: u32,
    settings: Arc<Settings>,
    resource: &str,
    timeout: Option<Duration>,
) {
    let key: Arc<str> = settings.key_of(resource).into();
    let existing = state.queues.borrow().get(&key).cloned();
    let queue = existing.unwrap_or_else(|| {
        let queue = Rc::new(WaitQueue::new(Arc::clone(&key)));
        state.queues.borrow_mut().insert(Arc::clone(&key), Rc::clone(&queue));
        tokio::task::spawn_local(serve(Rc::clone(state), Rc::clone(&queue)));
        queue
    });
    let grace = settings.command_timeout;
    let arrival = queue.join(Waiter { ticket, instance, settings, has_tried: false, alarm: None });
    if let Some(timeout) = timeout {
        let alarm = tokio::task::spawn_local({
            let queue = Rc::clone(&queue);
            async move {
                sleep(timeout).await;
                let _ = tokio::time::timeout(grace, queue.first_try(arrival)).await;
                if let Some(waiter) = queue.leave(arrival) {
                    let error = Error::WaitTimeout { key: key.to_string(), after_ms: timeout.as_millis() };
                    waiter.ticket.answer(Err(error.into()));
                }
            }
        });
        queue.set_alarm(arrival, Alarm(alarm.abort_handle()));
    }
}

/// A waiter leaves. One that was answered before has nothing to leave.
pub fn cancel(state: &EndpointState, key: String, environment: u64, call: u64) {
    let queue = state.queues.borrow().get(&*key).cloned();
    if let Some(waiter) = queue.and_then(|queue| queue.leave_by_call(environment, call)) {
        waiter.ticket.answer(Err(Error::Aborted { key }.into()));
    }
}

/// Tells those who wait, once an outage, that redis cannot be reached: whoever is first in each queue.
pub fn tell_outage(state: &EndpointState, error: &Error) {
    let mut told = HashSet::new();
    for head in state.queues.borrow().values().filter_map(|queue| queue.head()) {
        if told.insert((head.caller.environment, head.instance)) {
            let (host, port) = state.supervisor.endpoint.address();
            let event = Event::Outage { call: head.call, host: host.to_owned(), port, error: error.clone() };
            head.caller.report(head.settings.log_level, event);
        }
    }
}

/// All waiters of an environment that has ended leave.
pub fn forget_environment(state: &EndpointState, environment: u64) {
    let queues: Vec<_> = state.queues.borrow().values().cloned().collect();
    for queue in queues {
        drop(queue.leave_all(|waiter| waiter.ticket.caller.environment == environment));
    }
}

/// The key was just freed for everybody after it had gone round in this process for long enough: whoever waits for it
/// here, now or in a moment, lets the waiters of other processes go first.
pub fn give_others_a_turn(state: &EndpointState, key: &str) {
    state.start_turn_of_others(key, Instant::now() + TURN_OF_OTHERS);
}

/// Lives as long as the queue has waiters.
async fn serve(state: Rc<EndpointState>, queue: Rc<WaitQueue>) {
    let _guard = Closing { state: Rc::clone(&state), queue: Rc::clone(&queue) };
    let mut watch: Option<Watch> = None;
    let mut looks = Looks::default();
    while let Some(head) = queue.head() {
        if let Some(end) = state.turn_of_others(&queue.key) {
            sleep_until(end).await;
            watch = None;
            continue;
        }
        let changes = queue.changes();
        let purpose = Purpose::Wait { look: watch.is_none() };
        let left = queue.left(head.arrival);
        fail_point!("serve", &queue.key);
        match acquire(&state, &head.settings, &queue.key, purpose, left).await {
            Ok(Attempt::Acquired(sent)) => {
                watch = None;
                match queue.leave(head.arrival) {
                    Some(waiter) => renew::keep(&state, sent, waiter.ticket),
                    // It was cancelled while redis said yes.
                    None => undo::discard(&state, sent),
                }
            }
            Ok(Attempt::Held(sight)) => {
                if queue.was_tried(&head) {
                    tell_attempt(&state, &head, &queue, &sight);
                }
                // A plain poll neither begins a watch nor ends the one that an earlier look has begun.
                let seen = watch.take().unwrap_or_else(|| {
                    let seen = Watch::begin(&sight);
                    looks.found(sight, seen.end);
                    seen
                });
                let was_woken = rest_until(&queue, changes, seen.rest(&state)).await;
                if queue.changes() == changes && !seen.is_over() {
                    watch = seen.is_told.then_some(seen);
                } else if was_woken {
                    looks.space_out(&state).await;
                }
            }
            Ok(Attempt::TooLate | Attempt::Unwanted) => watch = None,
            Err(error) => {
                watch = None;
                fail(&queue, &head, &error);
            }
        }
    }
}

/// What is known of a key that somebody holds, until it changes.
struct Watch {
    /// The server will tell when it does.
    is_told: bool,
    /// When its ttl is over. Redis need not tell that in time: it finds expired keys by chance.
    end: Option<Instant>,
}

impl Watch {
    fn begin(sight: &Sight) -> Self {
        Self { is_told: sight.is_watched, end: sight.time_left.map(|left| Instant::now() + left) }
    }

    fn is_over(&self) -> bool {
        self.end.is_some_and(|end| Instant::now() >= end)
    }

    /// Until the next poll, or just before the end of the ttl if that comes first: the last stretch is tried through.
    fn rest(&self, state: &EndpointState) -> Duration {
        let poll = poll_interval(state, self.is_told);
        self.end.map_or(poll, |end| poll.min(end.saturating_duration_since(Instant::now() + TIMER)))
    }
}

/// Sleeps for `rest`, or until somebody wakes the queue, in which case it gives true. Not at all if the key has
/// changed since `changes`.
async fn rest_until(queue: &WaitQueue, changes: u64, rest: Duration) -> bool {
    if queue.changes() != changes {
        return true;
    }
    tokio::select! {
        () = queue.woken() => true,
        () = sleep(rest) => false,
    }
}

/// About a second. Where the server tells of changes and many wait, longer: the poll is only the safety net.
fn poll_interval(state: &EndpointState, is_watched: bool) -> Duration {
    let queues = if is_watched { state.queues.borrow().len() } else { 0 };
    let queues = u32::try_from(queues).unwrap_or(u32::MAX);
    let stretched = POLL.max(POLL / MOST_POLLS_A_SECOND * queues);
    stretched.mul_f64(0.9 + fastrand::f64() / 5.0)
}

/// Spaces out looks that follow one another closely. The first ones are immediate.
///
/// A key that changes hands a thousand times a second (between the holders of another process, say) is not worth a look
/// each time. And where the server's tracking table is too small for all watched keys, each look ends the watch of
/// another key, whose look ends a third: pushes that tell of no change are answered later and later.
#[derive(Default)]
struct Looks {
    in_a_row: u32,
    in_vain: u32,
    last: Option<Instant>,
    holder: Option<String>,
    end: Option<Instant>,
}

impl Looks {
    /// A look found this holder, whose ttl ends then.
    fn found(&mut self, sight: Sight, end: Option<Instant>) {
        let same_end = match (self.end, end) {
            (Some(before), Some(now)) => before.max(now) - before.min(now) < SAME,
            (before, now) => before.is_none() && now.is_none(),
        };
        let is_news = self.last.is_none() || !same_end || self.holder != sight.holder;
        self.in_vain = if is_news { 0 } else { self.in_vain + 1 };
        self.holder = sight.holder;
        self.end = end;
    }

    async fn space_out(&mut self, state: &EndpointState) {
        let is_close = self.last.is_some_and(|last| last.elapsed() < CLOSE);
        self.in_a_row = if is_close { self.in_a_row + 1 } else { 0 };
        let busy = doubled(self.in_a_row).min(LONGEST_PAUSE);
        let vain = doubled(self.in_vain).min(longest_in_vain(state));
        if !busy.max(vain).is_zero() {
            sleep(busy.max(vain)).await;
        }
        self.last = Some(Instant::now());
    }
}

/// Looks in vain are held back until all of one connection are as rare as its polls may be.
fn longest_in_vain(state: &EndpointState) -> Duration {
    let queues = u32::try_from(state.queues.borrow().len()).unwrap_or(u32::MAX);
    (Duration::from_secs(1) / MOST_POLLS_A_SECOND * queues).clamp(SHORTEST_IN_VAIN, POLL)
}

/// Nothing for the first two, then 1, 2, 4 … ms.
fn doubled(times: u32) -> Duration {
    times.checked_sub(3).map_or(Duration::ZERO, |power| Duration::from_millis(1 << power.min(10)))
}

fn tell_attempt(state: &EndpointState, head: &Head, queue: &WaitQueue, sight: &Sight) {
    let level = head.settings.log_level;
    if let Some(reason) = state.supervisor.take_why_no_pushes() {
        let endpoint = state.supervisor.endpoint.to_string();
        head.caller.report(level, Event::PollingOnly { call: head.call, endpoint, reason });
    }
    let (call, key) = (head.call, Arc::clone(&queue.key));
    head.caller.report(level, Event::Attempted { call, key, holder: sight.holder.clone() });
}

/// A failure that waiting does not mend. What is wrong with the connection is wrong for every waiter; what redis said
/// of one command is the head's alone.
fn fail(queue: &WaitQueue, head: &Head, error: &Error) {
    let concerns_all = matches!(error.class(), Class::Reconnect | Class::Denied);
    let gone = if concerns_all {
        queue.leave_all(|_| true)
    } else {
        queue.leave(head.arrival).into_iter().collect()
    };
    for waiter in gone {
        waiter.ticket.answer(Err(error.clone().into()));
    }
}

/// Whatever ends the task of a queue, no waiter is in one that nobody serves. A panic is the head's: its call fails, and
/// the others are served by another task.
struct Closing {
    state: Rc<EndpointState>,
    queue: Rc<WaitQueue>,
}

impl Drop for Closing {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Some(head) = self.queue.head()
        {
            drop(self.queue.leave(head.arrival));
        }
        if self.queue.head().is_some() {
            tokio::task::spawn_local(serve(Rc::clone(&self.state), Rc::clone(&self.queue)));
        } else {
            self.state.queues.borrow_mut().remove(&self.queue.key);
        }
    }
}
