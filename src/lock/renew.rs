//! Renews reservations in batches, retries failed renewals, and finds losses.

mod extension;

use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until};

use crate::connection::pipeline::{Pipeline, TIMER_TOLERANCE};
use crate::connection::send_queue::Lane;
use crate::connection::supervisor::Patience;
use crate::lock::attempts::Attempts;
use crate::lock::endpoint_state::{EndpointState, Held};
use crate::lock::loss::{end_lost, run_out};
use crate::lock::sent::Sent;
use crate::lock::undo;
use crate::lock::watch;
use crate::model::answer::{Answer, Event, Loss, Ticket};
use crate::model::error::Error;
use crate::model::lease::{Lease, Step};
use crate::model::reservation::{Phase, Reservation};
use crate::protocol::command::{Comparison, EXTEND, comparison_of};
use crate::runtime::task::spawn;
use crate::time::backoff::{jittered, spread};
use crate::time::budget::Budget;
use crate::time::clock::Moment;
use extension::{Extension, Round};

/// The longest sleep while something is held. A suspension stops the runtime's timers but not the lease, so a loss is
/// told this long after a suspension at most.
const MAX_SLEEP: Duration = Duration::from_secs(1);

/// How long it takes to read the replies that have arrived.
const READ_GRACE: Duration = Duration::from_millis(5);

/// The longest pause before a failed renewal is retried, if there are few.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// The most retries of failed renewals a second.
const MAX_TRIES_A_SECOND: u32 = 1_000;

/// How many renewals are sent first on a new connection. When one of them is answered, all others follow.
const FIRST_TO_VALIDATE: usize = 10;

/// Keeps a reservation from now on, and answers the call that acquired it. If the caller's environment has ended
/// meanwhile, the key is released.
pub fn keep(state: &Rc<EndpointState>, sent: Sent, ticket: Ticket) {
    if !ticket.caller.sink.is_open() {
        undo::discard(state, sent);
        return;
    }
    let lease = Lease::begin(sent.settings().terms, sent.when);
    let Sent { claim, hand_overs, .. } = sent;
    let reservation = state.keep(lease, Arc::clone(&ticket.caller), hand_overs, |id| {
        Arc::new(Reservation::new(id, claim, lease.certain_until()))
    });
    ticket.answer(Ok(Answer::Acquired(reservation)));
}

/// The heartbeat of one endpoint; ends when the endpoint's state is dropped. `wakeup` is notified when it must wake
/// earlier than it planned. After a panic it starts anew, and schedules everything again.
pub async fn beat(state: Weak<EndpointState>, wakeup: Rc<Notify>) {
    if let Some(state) = state.upgrade() {
        state.plan_all();
    }
    // Does not keep the state alive while it sleeps.
    while let Some(next) = state.upgrade().map(|state| turn(&state)) {
        let Some(next) = next else {
            wakeup.notified().await;
            continue;
        };
        let end = Instant::now() + Moment::now().until(next).min(MAX_SLEEP);
        tokio::select! {
            biased;
            () = sleep_until(end) => {}
            () = wakeup.notified() => {}
        }
        // This process was stopped. Read the replies that have arrived first: without the reply to a renewal, a valid
        // lease would be told lost.
        if end.elapsed() > TIMER_TOLERANCE {
            sleep(READ_GRACE).await;
        }
    }
}

/// Does what is due. Returns when the next is; `None` if there is nothing.
fn turn(state: &Rc<EndpointState>) -> Option<Moment> {
    let (mut renewals, mut looks) = (Vec::new(), Vec::new());
    for (id, step) in state.take_due(Moment::now()) {
        fail_point!("heartbeat", state.key_of(id));
        match step {
            Step::Renew => renewals.push(id),
            Step::Look => looks.push(id),
            Step::Nothing => state.update(id, |_| {}),
            Step::Expired => run_out(state, id, false),
            Step::HeldTooLong => run_out(state, id, true),
        }
    }
    if !renewals.is_empty() {
        renew(state, &renewals);
    }
    watch::look_at_due(state, &looks);
    state.next_due()
}

/// After a reconnect: renews everything, to find out what is still ours. A few go first: if they are refused, as by a
/// demoted server, the others do not flood it at each reconnect. Their own tries are spread out until one is answered.
pub fn validate_all(state: &EndpointState) {
    let mut all = state.find(|one| one.reservation.phase() == Phase::Held && !one.never_renews());
    all.sort_unstable_by_key(|&(id, end)| (end, id));
    let now = Moment::now();
    for (position, &(id, _)) in all.iter().enumerate() {
        let position = u32::try_from(position).unwrap_or(u32::MAX);
        let due = if (position as usize) < FIRST_TO_VALIDATE {
            now
        } else {
            now.after(RETRY_PAUSE + Duration::from_secs(1) / MAX_TRIES_A_SECOND * position)
        };
        state.doubt(id);
        state.update(id, |held| held.lease.postpone(Some(due)));
    }
}

/// Sends the renewals that are due, all in one turn and so in one pipeline.
fn renew(state: &Rc<EndpointState>, ids: &[u64]) {
    let Some(pipeline) = state.supervisor.current() else {
        // Everything is renewed when the connection is up again.
        for &id in ids {
            let error = state.supervisor.failure().unwrap_or_else(|| Error::Connection {
                endpoint: Arc::clone(&state.supervisor.endpoint),
                detail: "the connection was lost".into(),
                reason: "ECONNRESET",
            });
            failed(state, id, error);
        }
        return;
    };
    let round = Round::begin(state, &pipeline, true);
    state.watches.renewing(ids.len());
    for &id in ids {
        state.update(id, |held| {
            // A release may have been asked for just now.
            if held.reservation.phase() != Phase::Held {
                return;
            }
            // One that is not renewed otherwise gets back what it was granted, if somebody has shortened it.
            let ttl =
                if held.never_renews() { round.sent.until(held.lease.key_end()) } else { held.lease.ttl() };
            let limit = held.reservation.settings().command_timeout;
            let extension = Extension::begin(&round, held, ttl);
            let command = EXTEND.by_hash(&extension.call());
            pipeline.send_then(Lane::Renewal, command, limit, move |reply| {
                if let Ok(Some(Comparison::Ours)) = reply.as_ref().map(comparison_of) {
                    extension.renewed();
                } else {
                    spawn(extension.settle(reply));
                }
            });
            // Nothing more is due until the reply comes or the lease ends.
            held.lease.postpone(None);
        });
    }
}

/// A renewal has failed, but redis has not said that the key is lost. Retries it until the deadline: after a pause, or
/// when the connection is up again.
fn failed(state: &EndpointState, id: u64, error: Error) {
    let is_held = |held: &Held| held.reservation.phase() == Phase::Held;
    if !state.with(id, is_held).unwrap_or_default() {
        return;
    }
    let (is_up, is_new) = (state.supervisor.current().is_some(), state.doubt(id));
    state.update(id, |held| {
        let ttl = held.lease.ttl();
        held.lease.postpone(is_up.then(|| Moment::now().after(next_try(state, ttl, is_new))));
        if !std::mem::replace(&mut held.has_complained, true) {
            let reservation = Arc::clone(&held.reservation);
            let level = held.reservation.settings().log_level;
            held.caller.report(level, Event::ExtendFailed { reservation, error });
        }
    });
}

/// The pause before a failed renewal of a lease with this ttl is retried: short, unless there are so many that their
/// retries would flood the server. Some of them are always soon; when one is answered, all others follow. The first retry
/// of a lease is soon if the quota allows: its failure may have another cause than that of the others, and be over by then.
fn next_try(state: &EndpointState, ttl: Duration, is_first: bool) -> Duration {
    if is_first && state.may_renew_soon() {
        return jittered(RETRY_PAUSE);
    }
    spread(RETRY_PAUSE, state.doubtful().count_for(ttl), MAX_TRIES_A_SECOND)
}

/// Retries all failed renewals soon, because their cause may be over.
pub fn try_soon(state: &Rc<EndpointState>) {
    if let Some(pipeline) = state.supervisor.current() {
        try_the_doubtful(state, &pipeline);
    }
}

/// Retries all failed renewals now, because the server answers again; once a second at most for each connection.
fn try_the_doubtful(state: &Rc<EndpointState>, pipeline: &Pipeline) {
    if state.doubtful().is_empty() {
        return;
    }
    let state = Rc::downgrade(state);
    pipeline.retries.occasion(move || {
        let Some(state) = state.upgrade() else { return };
        let doubtful: Vec<u64> = state.doubtful().ids().collect();
        for id in doubtful {
            state.update(id, |held| {
                // One that is in flight is not sent twice.
                if !held.lease.is_postponed() {
                    held.lease.postpone(Some(Moment::ZERO));
                }
            });
        }
    });
}

/// The result of a renewal that a caller asked for.
pub enum Renewal {
    /// Redis has renewed it.
    Renewed,
    /// A release was asked for first, or another call has told that it is lost.
    NotHeld,
    /// It is lost, and this renewal tells so.
    Lost(Loss),
}

/// Renews one reservation now, for a call that waits for the reply.
///
/// # Errors
/// Why redis could not be reached.
pub async fn renew_now(state: &Rc<EndpointState>, id: u64, ttl: Duration) -> Result<Renewal, Error> {
    let mut reservation = None;
    state.update(id, |held| {
        held.lease.shorten(ttl, Moment::now());
        held.reservation.set_certain_until(held.lease.certain_until());
        reservation = Some(Arc::clone(&held.reservation));
    });
    let Some(reservation) = reservation else { return Ok(Renewal::NotHeld) };
    let settings = reservation.settings();
    let mut attempts = Attempts::new(state, settings, Budget::new(settings.command_timeout));
    loop {
        let pipeline = attempts.connection(Patience::Call).await?;
        // The caller that asked for the release is done with the lock, so stop retrying.
        if reservation.phase() != Phase::Held {
            return Ok(Renewal::NotHeld);
        }
        let round = Round::begin(state, &pipeline, false);
        state.watches.renewing(1);
        let mut extension = None;
        state.update(id, |one| extension = Some(Extension::begin(&round, one, ttl)));
        let Some(extension) = extension else { return Ok(Renewal::NotHeld) };
        let limit = attempts.remaining();
        let command = EXTEND.by_hash(&extension.call());
        let reply = pipeline.send(Lane::Renewal, command, limit).reply().await;
        match extension.finish(reply, limit).await {
            Ok(None) => return Ok(Renewal::Renewed),
            // A release that was asked for finds out by itself, and tells it.
            Ok(Some(loss)) => {
                let is_found = end_lost(state, id, &loss).is_some();
                return Ok(if is_found { Renewal::Lost(loss) } else { Renewal::NotHeld });
            }
            // An extend may run twice.
            Err((no_reply, error)) => attempts.failed(&pipeline, &no_reply, error).await?,
        }
    }
}
