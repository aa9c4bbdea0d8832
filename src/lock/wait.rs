//! Serves the waiters of one key. Only the first of the local queue asks redis; the others wait for their turn.
//!
//! The first one tries again when the server reports a change of the key, when the ttl that it read ends, when the key
//! is released in this process, and otherwise once a second.

use std::collections::HashSet;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use crate::lock::acquire::{Attempt, KeyState, Purpose, acquire};
use crate::lock::endpoint_state::EndpointState;
use crate::lock::renew;
use crate::lock::undo;
use crate::lock::wait_queue::{Head, TimeoutTask, WaitQueue, Waiter};
use crate::model::answer::{Event, Ticket};
use crate::model::error::Error;
use crate::model::refusal::Class;
use crate::model::settings::Settings;
use crate::runtime::task::spawn;

/// Poll interval of a waiter that nothing else wakes: as in 0.4.0, but jittered.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// The most polls of one connection while the server reports changes. The polls of 100,000 waiters are only the safety
/// net then. The rest of 1,000 a second is for other commands.
const MAX_POLLS_A_SECOND: u32 = 900;

/// Looks that find the key held are spaced out if they follow one another within this time.
const CLOSE_TOGETHER: Duration = Duration::from_millis(20);

/// The longest pause before a look while the key keeps changing.
const MAX_BUSY_PAUSE: Duration = Duration::from_millis(4);

/// How long this process leaves a key to waiters of other processes: longer than their pause before a look.
const TURN_OF_OTHERS: Duration = Duration::from_millis(6);

/// Minimum pause between two looks that found the key unchanged, once there have been enough of them.
const MIN_UNCHANGED_PAUSE: Duration = Duration::from_millis(64);

/// The runtime's timers may fire this late.
const TIMER_GRANULARITY: Duration = Duration::from_millis(1);

/// Two readings of a key's expiry that differ by less are the same: each is counted from when its reply came.
const SAME_EXPIRY: Duration = Duration::from_millis(20);

/// Joins the queue for a resource. The waiter leaves it when it has the lock, after `timeout`, or by [`cancel`].
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
        spawn(serve(Rc::clone(state), Rc::clone(&queue)));
        queue
    });
    let grace = settings.command_timeout;
    let arrival = queue.join(Waiter { ticket, instance, settings, has_tried: false, timeout_task: None });
    if let Some(timeout) = timeout {
        let timeout_task = spawn({
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
        queue.set_timeout_task(arrival, TimeoutTask(timeout_task.abort_handle()));
    }
}

/// Removes a waiter. Does nothing if it was answered before.
pub fn cancel(state: &EndpointState, key: String, environment: u64, call: u64) {
    let queue = state.queues.borrow().get(&*key).cloned();
    if let Some(waiter) = queue.and_then(|queue| queue.leave_by_call(environment, call)) {
        waiter.ticket.answer(Err(Error::Aborted { key }.into()));
    }
}

/// Reports an outage to the first waiter of each queue: once for each instance.
pub fn tell_outage(state: &EndpointState, error: &Error) {
    let mut reported = HashSet::new();
    for head in state.queues.borrow().values().filter_map(|queue| queue.head()) {
        if reported.insert((head.caller.environment, head.instance)) {
            let (host, port) = state.supervisor.endpoint.address();
            let event = Event::Outage { call: head.call, host: host.to_owned(), port, error: error.clone() };
            head.caller.report(head.settings.log_level, event);
        }
    }
}

/// Removes all waiters of an environment that has ended.
pub fn forget_environment(state: &EndpointState, environment: u64) {
    let queues: Vec<_> = state.queues.borrow().values().cloned().collect();
    for queue in queues {
        drop(queue.leave_all(|waiter| waiter.ticket.caller.environment == environment));
    }
}

/// The key was freed for everybody after enough hand-overs in this process. This process's waiters, also those that
/// join in a moment, let the waiters of other processes go first.
pub fn give_others_a_turn(state: &EndpointState, key: &str) {
    state.start_turn_of_others(key, Instant::now() + TURN_OF_OTHERS);
}

/// Serves a queue until its last waiter has left.
async fn serve(state: Rc<EndpointState>, queue: Rc<WaitQueue>) {
    let _guard = QueueGuard { state: Rc::clone(&state), queue: Rc::clone(&queue) };
    let mut watch: Option<Watch> = None;
    let mut pacer = LookPacer::default();
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
                    // It was cancelled while the reply was on its way.
                    None => undo::discard(&state, sent),
                }
            }
            Ok(Attempt::Held(key_state)) => {
                if queue.was_tried(&head) {
                    tell_attempt(&state, &head, &queue, &key_state);
                }
                // A plain poll neither begins a watch nor ends one.
                let seen = watch.take().unwrap_or_else(|| {
                    let seen = Watch::begin(&key_state);
                    pacer.found(key_state, seen.end);
                    seen
                });
                let was_woken = rest_until(&queue, changes, seen.rest(&state)).await;
                if queue.changes() == changes && !seen.is_over() {
                    watch = seen.is_watched.then_some(seen);
                } else if was_woken {
                    pacer.space_out(&state).await;
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

/// What was read of a held key. Valid until the key changes.
struct Watch {
    /// The server will report a change of the key.
    is_watched: bool,
    /// When its ttl ends. Redis may report that late: it finds expired keys by sampling.
    end: Option<Instant>,
}

impl Watch {
    fn begin(key_state: &KeyState) -> Self {
        Self { is_watched: key_state.is_watched, end: key_state.time_left.map(|left| Instant::now() + left) }
    }

    fn is_over(&self) -> bool {
        self.end.is_some_and(|end| Instant::now() >= end)
    }

    /// The sleep until the next poll. It ends just before the ttl does, if that is sooner; from there on the key is
    /// tried without pause.
    fn rest(&self, state: &EndpointState) -> Duration {
        let poll = poll_interval(state, self.is_watched);
        self.end
            .map_or(poll, |end| poll.min(end.saturating_duration_since(Instant::now() + TIMER_GRANULARITY)))
    }
}

/// Sleeps for `rest`, or until the queue is woken. Returns at once if the key has changed since `changes`. True if it
/// was woken or the key has changed.
async fn rest_until(queue: &WaitQueue, changes: u64, rest: Duration) -> bool {
    if queue.changes() != changes {
        return true;
    }
    tokio::select! {
        biased;
        () = queue.woken() => true,
        () = sleep(rest) => false,
    }
}

/// About a second. Longer if many wait and the server reports changes: then the poll is only the safety net.
fn poll_interval(state: &EndpointState, is_watched: bool) -> Duration {
    let queues = if is_watched { state.queues.borrow().len() } else { 0 };
    let queues = u32::try_from(queues).unwrap_or(u32::MAX);
    let stretched = POLL_INTERVAL.max(POLL_INTERVAL / MAX_POLLS_A_SECOND * queues);
    stretched.mul_f64(0.9 + fastrand::f64() / 5.0)
}

/// Spaces out looks that follow one another closely. The first ones are immediate.
///
/// Two cases need it. A key that changes hands a thousand times a second, say inside another process, is not worth a
/// look each time. And if the server's tracking table is too small for all watched keys, each look ends the watch of
/// another key, whose look ends a third: such reports mean no change, so each next look waits longer.
#[derive(Default)]
struct LookPacer {
    close_together: u32,
    unchanged: u32,
    last: Option<Instant>,
    holder: Option<String>,
    end: Option<Instant>,
}

impl LookPacer {
    /// Notes the result of a look: the holder, and when the key's ttl ends.
    fn found(&mut self, key_state: KeyState, end: Option<Instant>) {
        let same_end = match (self.end, end) {
            (Some(before), Some(now)) => before.max(now) - before.min(now) < SAME_EXPIRY,
            (before, now) => before.is_none() && now.is_none(),
        };
        let is_news = self.last.is_none() || !same_end || self.holder != key_state.holder;
        self.unchanged = if is_news { 0 } else { self.unchanged + 1 };
        self.holder = key_state.holder;
        self.end = end;
    }

    async fn space_out(&mut self, state: &EndpointState) {
        let is_close = self.last.is_some_and(|last| last.elapsed() < CLOSE_TOGETHER);
        self.close_together = if is_close { self.close_together + 1 } else { 0 };
        let busy = doubled(self.close_together).min(MAX_BUSY_PAUSE);
        let unchanged = doubled(self.unchanged).min(max_unchanged_pause(state));
        if !busy.max(unchanged).is_zero() {
            sleep(busy.max(unchanged)).await;
        }
        self.last = Some(Instant::now());
    }
}

/// The longest pause between looks that find nothing new: until those of one connection together are no more than its
/// polls may be.
fn max_unchanged_pause(state: &EndpointState) -> Duration {
    let queues = u32::try_from(state.queues.borrow().len()).unwrap_or(u32::MAX);
    (Duration::from_secs(1) / MAX_POLLS_A_SECOND * queues).clamp(MIN_UNCHANGED_PAUSE, POLL_INTERVAL)
}

/// Zero for the first two, then 1, 2, 4 … ms.
fn doubled(times: u32) -> Duration {
    times.checked_sub(3).map_or(Duration::ZERO, |power| Duration::from_millis(1 << power.min(10)))
}

fn tell_attempt(state: &EndpointState, head: &Head, queue: &WaitQueue, key_state: &KeyState) {
    let level = head.settings.log_level;
    if let Some(reason) = state.supervisor.take_why_no_pushes() {
        let endpoint = state.supervisor.endpoint.to_string();
        head.caller.report(level, Event::PollingOnly { call: head.call, endpoint, reason });
    }
    let (call, key) = (head.call, Arc::clone(&queue.key));
    head.caller.report(level, Event::Attempted { call, key, holder: key_state.holder.clone() });
}

/// Answers waiters with a failure that waiting does not mend. A failure of the connection is every waiter's; the
/// refusal of one command is only the first one's.
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

/// Ensures that no queue with waiters is left without a task, however the task ends. After a panic the call of the
/// first waiter fails, and a new task serves the others.
struct QueueGuard {
    state: Rc<EndpointState>,
    queue: Rc<WaitQueue>,
}

impl Drop for QueueGuard {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Some(head) = self.queue.head()
        {
            drop(self.queue.leave(head.arrival));
        }
        if self.queue.head().is_some() {
            spawn(serve(Rc::clone(&self.state), Rc::clone(&self.queue)));
        } else {
            self.state.queues.borrow_mut().remove(&self.queue.key);
        }
    }
}
