//! Deletes keys that hold a value of ours which nobody holds any more: its SET's reply was lost or came too late, or
//! its lease was lost. No call waits for it.
//!
//! One queue for each endpoint, worked off in batches. Failures (the server is gone, demoted, slow, or refuses) are
//! retried with backoff, at no more than [`MAX_COMMANDS_A_SECOND`]. A value whose ttl is over has expired by itself and is
//! dropped.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::{Rc, Weak};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until, timeout};

use crate::connection::pipeline::Pipeline;
use crate::connection::reply::NoReply;
use crate::connection::send_queue::Lane;
use crate::connection::supervisor::Patience;
use crate::lock::endpoint_state::EndpointState;
use crate::lock::sent::Sent;
use crate::model::refusal::Class;
use crate::protocol::command::{Comparison, RELEASE, ScriptCall};
use crate::time::backoff::{Backoff, jittered};
use crate::time::clock::Moment;

/// The most commands a second of one endpoint's undo.
const MAX_COMMANDS_A_SECOND: u32 = 1_000;

/// The most values in one batch. The first batch at a server, and the first after a failure, is [`FIRST_BATCH`].
const MAX_BATCH: usize = 100;
const FIRST_BATCH: usize = 10;

/// How long after a key was deleted it is deleted again, if an old connection that could not be closed may still set
/// it.
const DELETE_AGAIN: Duration = Duration::from_millis(250);

/// A value to delete.
struct Item {
    sent: Sent,
    /// When its key has expired at the latest.
    end: Moment,
    not_before: Instant,
}

/// The values to delete, of one endpoint.
#[derive(Default)]
pub struct Undo {
    items: RefCell<VecDeque<Item>>,
    wakeup: Rc<Notify>,
}

impl Undo {
    /// True while there are values to delete.
    #[must_use]
    pub fn is_needed(&self) -> bool {
        !self.items.borrow().is_empty()
    }

    /// The connect timeout for a connection that only the undo needs.
    #[must_use]
    pub fn connect_timeout(&self) -> Option<Duration> {
        self.items.borrow().front().map(|item| item.sent.settings().connect_timeout)
    }

    /// Notified when there is something to do, and when the endpoint's state is dropped.
    #[must_use]
    pub fn wakeup(&self) -> Rc<Notify> {
        Rc::clone(&self.wakeup)
    }

    fn put(&self, sent: Sent, end: Moment) {
        if sent.can_be_asked_about() {
            self.put_back(Item { sent, end, not_before: Instant::now() });
        }
    }

    fn put_back(&self, item: Item) {
        self.items.borrow_mut().push_back(item);
        self.wakeup.notify_one();
    }

    /// Drops values that have expired. Returns when the last of the others does.
    fn drop_lapsed(&self) -> Option<Moment> {
        let now = Moment::now();
        let mut items = self.items.borrow_mut();
        items.retain(|item| item.end > now);
        if items.is_empty() {
            *items = VecDeque::new();
        }
        items.iter().map(|item| item.end).max()
    }

    /// Drops all values: their keys expire by themselves.
    fn give_up(&self) {
        self.items.take();
    }

    /// Takes out at most `most` values that are due; if none is, the error is when the next one will be.
    fn take_due(&self, most: usize) -> Result<Vec<Item>, Instant> {
        let mut items = self.items.borrow_mut();
        let now = Instant::now();
        let mut due = Vec::new();
        let mut next: Option<Instant> = None;
        for _ in 0..items.len() {
            let Some(item) = items.pop_front() else { break };
            if item.not_before <= now && due.len() < most {
                due.push(item);
            } else {
                next = Some(next.map_or(item.not_before, |next| next.min(item.not_before)));
                items.push_back(item);
            }
        }
        if due.is_empty() { Err(next.unwrap_or(now)) } else { Ok(due) }
    }
}

/// Deletes this value from its key. Its SET may have run until now.
pub fn discard(state: &EndpointState, sent: Sent) {
    let end = Moment::now().after(sent.settings().terms.ttl);
    state.undo.put(sent, end);
}

/// The same for a lease that is over, whose key expires at `end`. It is kept for one more command limit, so that it is
/// tried at least once if redis can be reached, and because an extend may have been in flight.
pub fn discard_lost(state: &EndpointState, sent: Sent, end: Moment) {
    let end = end.max(Moment::now()).after(sent.settings().command_timeout);
    state.undo.put(sent, end);
}

/// Works the queue off until the endpoint's state is dropped.
pub async fn serve(state: Weak<EndpointState>, wakeup: Rc<Notify>) {
    let mut throttle = Throttle::default();
    loop {
        let Some(strong) = state.upgrade() else { return };
        if strong.undo.is_needed() {
            work(&strong, &mut throttle).await;
            continue;
        }
        // Does not keep the state alive while it sleeps.
        drop(strong);
        wakeup.notified().await;
    }
}

/// The size of the next batch, and the backoff.
struct Throttle {
    size: usize,
    backoff: Backoff,
}

impl Default for Throttle {
    fn default() -> Self {
        Self { size: FIRST_BATCH, backoff: Backoff::default() }
    }
}

impl Throttle {
    fn succeeded(&mut self) {
        self.size = (self.size * 2).min(MAX_BATCH);
        self.backoff.reset();
    }

    /// Returns the pause after a failure.
    fn failed(&mut self) -> Duration {
        self.size = FIRST_BATCH;
        self.backoff.next_delay()
    }
}

/// Sends one batch, then pauses.
async fn work(state: &Rc<EndpointState>, throttle: &mut Throttle) {
    let Some(end) = state.undo.drop_lapsed() else { return };
    let connect_timeout = state.undo.connect_timeout().unwrap_or_default();
    let connecting = state.supervisor.pipeline(Patience::Outage, connect_timeout);
    let Ok(connected) = timeout(Moment::now().until(end), connecting).await else { return };
    // Redis refuses these credentials. Each retry would be one more refused login.
    let Ok(pipeline) = connected else { return state.undo.give_up() };
    let batch = match state.undo.take_due(throttle.size) {
        Ok(batch) => batch,
        Err(next) => return sleep_until(next).await,
    };
    let began = Instant::now();
    let count = u32::try_from(batch.len()).unwrap_or(u32::MAX);
    let mut commands = count;
    let mut has_failed = false;
    for (item, result) in try_all(&pipeline, batch).await {
        match result {
            Ok(Found { now, was_resent, is_certain }) => {
                commands += u32::from(was_resent);
                if now == Comparison::Ours {
                    state.changed(item.sent.claim.key());
                }
                if !is_certain {
                    state.undo.put_back(Item { not_before: Instant::now() + jittered(DELETE_AGAIN), ..item });
                }
            }
            Err(no_reply) => {
                let error = no_reply.to_error(item.sent.settings(), RELEASE.name, item.sent.claim.key());
                state.supervisor.leave_if_useless(&pipeline, &error);
                // After a final refusal the key is left to its ttl.
                if !matches!(error.class(), Class::Denied | Class::Final) {
                    has_failed = true;
                    state.undo.put_back(item);
                }
            }
        }
    }
    let failed = if has_failed { throttle.failed() } else { Duration::ZERO };
    if !has_failed {
        throttle.succeeded();
    }
    sleep_until(began + (Duration::from_secs(1) / MAX_COMMANDS_A_SECOND * commands).max(failed)).await;
}

/// The result for one value.
struct Found {
    now: Comparison,
    was_resent: bool,
    /// Its SET cannot run any more.
    is_certain: bool,
}

/// Sends all in one pipeline. In the regular lane, because no undo may overtake its SET.
async fn try_all(pipeline: &Rc<Pipeline>, batch: Vec<Item>) -> Vec<(Item, Result<Found, NoReply>)> {
    let mut in_flight = Vec::with_capacity(batch.len());
    for item in batch {
        fail_point!("undo", item.sent.claim.key());
        let is_certain = item.sent.has_run_or_never_will(pipeline).await;
        let call = ScriptCall { claim: &item.sent.claim, ttl: None, next: None };
        let limit = item.sent.settings().command_timeout;
        let reply = pipeline.send(Lane::Regular, RELEASE.by_hash(&call), limit);
        in_flight.push((item, is_certain, reply));
    }
    let mut results = Vec::with_capacity(in_flight.len());
    for (item, is_certain, reply) in in_flight {
        let reply = reply.reply().await;
        let was_resent = crate::connection::reply::is_unknown_script(&reply);
        let call = ScriptCall { claim: &item.sent.claim, ttl: None, next: None };
        let found = pipeline.compared(reply, &RELEASE, &call, item.sent.settings().command_timeout).await;
        results.push((item, found.map(|now| Found { now, was_resent, is_certain })));
    }
    results
}
