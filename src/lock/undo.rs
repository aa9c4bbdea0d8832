//! Deletes keys that hold a value of ours which nobody holds: a SET whose answer was lost or came too late, a lease that
//! was told lost. Nobody waits for it.
//!
//! One queue for each endpoint, worked off in batches: what cannot succeed (the server is gone, was demoted, is slow,
//! refuses) is tried seldom, never faster than [`MOST_A_SECOND`], and given up when the value's own ttl is over, since it
//! is gone by itself then.

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

/// Commands of an endpoint's undo.
const MOST_A_SECOND: u32 = 1_000;

/// Values of one batch. The first of a server, and the first after a failure, is much smaller.
const LARGEST_BATCH: usize = 100;
const FIRST_BATCH: usize = 10;

/// Between two looks at a key that may still be set by a connection which could not be closed.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// A value that is to go.
struct Item {
    sent: Sent,
    /// When its ttl is over.
    end: Moment,
    not_before: Instant,
}

/// The values that are to go.
#[derive(Default)]
pub struct Undo {
    items: RefCell<VecDeque<Item>>,
    bell: Rc<Notify>,
}

impl Undo {
    /// True while there is something to be undone.
    #[must_use]
    pub fn is_needed(&self) -> bool {
        !self.items.borrow().is_empty()
    }

    /// How long a connection that is made for this alone may take to be made.
    #[must_use]
    pub fn connect_timeout(&self) -> Option<Duration> {
        self.items.borrow().front().map(|item| item.sent.settings().connect_timeout)
    }

    /// Rung when there is something to be undone, or nobody left for whom.
    #[must_use]
    pub fn bell(&self) -> Rc<Notify> {
        Rc::clone(&self.bell)
    }

    fn put(&self, sent: Sent, end: Moment) {
        if sent.can_be_asked_about() {
            self.put_back(Item { sent, end, not_before: Instant::now() });
        }
    }

    fn put_back(&self, item: Item) {
        self.items.borrow_mut().push_back(item);
        self.bell.notify_one();
    }

    /// Forgets what has lapsed. When the last of the rest does.
    fn drop_lapsed(&self) -> Option<Moment> {
        let now = Moment::now();
        let mut items = self.items.borrow_mut();
        items.retain(|item| item.end > now);
        if items.is_empty() {
            *items = VecDeque::new();
        }
        items.iter().map(|item| item.end).max()
    }

    /// Forgets all of it: it is left to its ttl.
    fn give_up(&self) {
        self.items.take();
    }

    /// Takes out some that are due; where none are, when the first of them is.
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

/// Sees to it that the key does not keep this value, whose SET may have run until now.
pub fn discard(state: &EndpointState, sent: Sent) {
    let end = Moment::now().after(sent.settings().terms.ttl);
    state.undo.put(sent, end);
}

/// The same for the value of a lease that is over, whose key lapses at `end`. It is tried once at least, if redis can be
/// reached in the time that a command may take: for as long, what has given it time may have been on its way.
pub fn discard_lost(state: &EndpointState, sent: Sent, end: Moment) {
    let end = end.max(Moment::now()).after(sent.settings().command_timeout);
    state.undo.put(sent, end);
}

/// Works the queue off, for as long as its client lives.
pub async fn serve(state: Weak<EndpointState>, bell: Rc<Notify>) {
    let mut pace = Pace::default();
    loop {
        let Some(in_hand) = state.upgrade() else { return };
        if in_hand.undo.is_needed() {
            work(&in_hand, &mut pace).await;
            continue;
        }
        // Without the client in hand: nothing here keeps it.
        drop(in_hand);
        bell.notified().await;
    }
}

/// How much is tried at once, and how soon after a failure.
struct Pace {
    size: usize,
    backoff: Backoff,
}

impl Default for Pace {
    fn default() -> Self {
        Self { size: FIRST_BATCH, backoff: Backoff::default() }
    }
}

impl Pace {
    fn succeeded(&mut self) {
        self.size = (self.size * 2).min(LARGEST_BATCH);
        self.backoff.reset();
    }

    /// The pause after a failure.
    fn failed(&mut self) -> Duration {
        self.size = FIRST_BATCH;
        self.backoff.next_delay()
    }
}

/// One batch, with the pause after it.
async fn work(state: &Rc<EndpointState>, pace: &mut Pace) {
    let Some(end) = state.undo.drop_lapsed() else { return };
    let connect_timeout = state.undo.connect_timeout().unwrap_or_default();
    let connecting = state.supervisor.pipeline(Patience::Outage, connect_timeout);
    let Ok(connected) = timeout(Moment::now().until(end), connecting).await else { return };
    // These credentials are let in no more: trying on would be a refused login each time.
    let Ok(pipeline) = connected else { return state.undo.give_up() };
    let batch = match state.undo.take_due(pace.size) {
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
                    state.undo.put_back(Item { not_before: Instant::now() + jittered(LOOK_AGAIN), ..item });
                }
            }
            Err(no_reply) => {
                let error = no_reply.to_error(item.sent.settings(), RELEASE.name, item.sent.claim.key());
                state.supervisor.leave_if_useless(&pipeline, &error);
                // What is refused for good is left to its ttl.
                if !matches!(error.class(), Class::Denied | Class::Final) {
                    has_failed = true;
                    state.undo.put_back(item);
                }
            }
        }
    }
    let failed = if has_failed { pace.failed() } else { Duration::ZERO };
    if !has_failed {
        pace.succeeded();
    }
    sleep_until(began + (Duration::from_secs(1) / MOST_A_SECOND * commands).max(failed)).await;
}

/// What became of one.
struct Found {
    now: Comparison,
    was_resent: bool,
    /// It cannot be set any more.
    is_certain: bool,
}

/// Tries all of them in one pipeline. Not urgent: none must overtake the SET that it undoes.
async fn try_all(pipeline: &Rc<Pipeline>, batch: Vec<Item>) -> Vec<(Item, Result<Found, NoReply>)> {
    let mut under_way = Vec::with_capacity(batch.len());
    for item in batch {
        fail_point!("undo", item.sent.claim.key());
        let is_certain = item.sent.has_run_or_never_will(pipeline).await;
        let call = ScriptCall { claim: &item.sent.claim, ttl: None, next: None };
        let limit = item.sent.settings().command_timeout;
        let reply = pipeline.send(Lane::Regular, RELEASE.by_hash(&call), limit);
        under_way.push((item, is_certain, reply));
    }
    let mut results = Vec::with_capacity(under_way.len());
    for (item, is_certain, reply) in under_way {
        let reply = reply.reply().await;
        let was_resent = crate::connection::reply::is_unknown_script(&reply);
        let call = ScriptCall { claim: &item.sent.claim, ttl: None, next: None };
        let found = pipeline.compared(reply, &RELEASE, &call, item.sent.settings().command_timeout).await;
        results.push((item, found.map(|now| Found { now, was_resent, is_certain })));
    }
    results
}
