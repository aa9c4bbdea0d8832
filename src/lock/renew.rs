//! Keeps what was acquired: renews in batches, and tells of a loss when redis says so or when the deadline passes.

use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use redis::Value;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until};

use crate::connection::pipeline::{LATE, Pipeline};
use crate::connection::reply::NoReply;
use crate::connection::send_queue::Lane;
use crate::connection::supervisor::Patience;
use crate::lock::attempts::Attempts;
use crate::lock::endpoint_state::{EndpointState, Held};
use crate::lock::loss::{end_lost, lose, run_out};
use crate::lock::sent::Sent;
use crate::lock::undo;
use crate::model::answer::{Answer, Event, Loss, Ticket};
use crate::model::error::Error;
use crate::model::lease::{Asking, Lease, Step};
use crate::model::reservation::{Phase, Reservation};
use crate::model::settings::LogLevel;
use crate::protocol::command::{Comparison, EXTEND, ScriptCall, comparison_of};
use crate::time::backoff::{jittered, spread};
use crate::time::budget::Budget;
use crate::time::clock::Moment;

/// The longest sleep while something is held: after a suspension, which stops the runtime's timers but not the lease,
/// a loss is told this soon.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);

/// How long it takes to read what lies in a socket.
const TAKING_IN: Duration = Duration::from_millis(5);

/// How long after a refused renewal the next is sent, at most.
const RETRY: Duration = Duration::from_millis(100);

/// Renewals that redis refuses, or that a shard of a cluster is not there for, are tried this often in all.
const MOST_TRIES_A_SECOND: u32 = 1_000;

/// Renewals that a new connection is tried with. When one of them has its answer, all others follow.
const FIRST_TO_VALIDATE: usize = 10;

/// Starts the life of a reservation and answers the call that acquired it. Where its caller has ended meanwhile, the
/// key is given back.
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

/// The heartbeat of one endpoint, for as long as its client lives. `bell` is rung when something is to be done earlier
/// than was known. It starts over after a panic: then what was being dealt with is planned anew.
pub async fn beat(state: Weak<EndpointState>, bell: Rc<Notify>) {
    if let Some(state) = state.upgrade() {
        state.plan_all();
    }
    // Without the client in hand while it sleeps: nothing here keeps it.
    while let Some(next) = state.upgrade().map(|state| turn(&state)) {
        let Some(next) = next else {
            bell.notified().await;
            continue;
        };
        let end = Instant::now() + Moment::now().until(next).min(LONGEST_SLEEP);
        tokio::select! {
            () = sleep_until(end) => {}
            () = bell.notified() => {}
        }
        // This process was stopped. What answers came meanwhile are taken in first: one may be of a renewal, without
        // which a lease that stands would be told lost.
        if end.elapsed() > LATE {
            sleep(TAKING_IN).await;
        }
    }
}

/// Does what is due, and says when the next is; `None` while there is nothing.
fn turn(state: &Rc<EndpointState>) -> Option<Moment> {
    let mut renewals = Vec::new();
    for (id, step) in state.take_due(Moment::now()) {
        fail_point!("heartbeat", state.key_of(id));
        match step {
            Step::Renew => renewals.push(id),
            Step::Nothing => state.update(id, |_| {}),
            Step::Expired => run_out(state, id, false),
            Step::HeldTooLong => run_out(state, id, true),
        }
    }
    if !renewals.is_empty() {
        renew(state, &renewals);
    }
    state.next_due()
}

/// After a reconnect: asks whether everything is still ours. A few first: should they be refused, as by a server that was
/// demoted, the others are not a storm each time; their own tries are spread out until one is answered.
pub fn validate_all(state: &EndpointState) {
    let mut all = state.find(|one| one.reservation.phase() == Phase::Held && !one.never_renews());
    all.sort_unstable_by_key(|&(id, end)| (end, id));
    let now = Moment::now();
    for (place, &(id, _)) in all.iter().enumerate() {
        let place = u32::try_from(place).unwrap_or(u32::MAX);
        let due = if (place as usize) < FIRST_TO_VALIDATE {
            now
        } else {
            now.after(RETRY + Duration::from_secs(1) / MOST_TRIES_A_SECOND * place)
        };
        state.doubt(id);
        state.update(id, |held| held.lease.postpone(Some(due)));
    }
}

/// Extends that were sent together.
struct Round {
    state: Rc<EndpointState>,
    pipeline: Rc<Pipeline>,
    /// The moment before they were sent.
    sent: Moment,
    /// Each success is an event.
    is_told: bool,
}

impl Round {
    /// To be sent now.
    fn begin(state: &Rc<EndpointState>, pipeline: &Rc<Pipeline>, is_told: bool) -> Rc<Self> {
        let (state, pipeline) = (Rc::clone(state), Rc::clone(pipeline));
        Rc::new(Self { state, pipeline, sent: Moment::now(), is_told })
    }
}

/// One extend that was sent.
struct Extension {
    round: Rc<Round>,
    reservation: Arc<Reservation>,
    ttl: Duration,
    asking: Asking,
}

impl Extension {
    /// An extend of this reservation that is sent now.
    fn begin(round: &Rc<Round>, held: &mut Held, ttl: Duration) -> Self {
        let asking = held.lease.ask(ttl, round.sent);
        Self { round: Rc::clone(round), reservation: Arc::clone(&held.reservation), ttl, asking }
    }

    fn call(&self) -> ScriptCall<'_> {
        ScriptCall { claim: &self.reservation.claim, ttl: Some(self.ttl), next: None }
    }

    /// Takes in the answer. `Ok(None)`: renewed; `Ok(Some)`: lost, to whom.
    async fn finish(
        &self,
        reply: Result<Value, NoReply>,
        limit: Duration,
    ) -> Result<Option<Loss>, (NoReply, Error)> {
        let reservation = &self.reservation;
        let holder = match self.round.pipeline.compared(reply, &EXTEND, &self.call(), limit).await {
            Ok(Comparison::Ours | Comparison::Freed) => {
                self.renewed();
                return Ok(None);
            }
            Ok(Comparison::Gone) => None,
            Ok(Comparison::Other(holder)) => holder,
            Err(no_reply) => {
                let mut error = no_reply.to_error(reservation.settings(), EXTEND.name, reservation.key());
                match no_reply {
                    NoReply::Dropped => error = self.round.state.supervisor.failure().unwrap_or(error),
                    NoReply::TimedOut => {}
                    NoReply::Refused(_) | NoReply::Unsent(_) | NoReply::Overdue => {
                        let asking = self.asking;
                        self.round.state.update(reservation.id, |one| one.lease.was_refused(asking));
                    }
                }
                return Err((no_reply, error));
            }
        };
        self.answered();
        Ok(Some(Loss { reservation: Arc::clone(reservation), holder }))
    }

    /// The server does say what is ours: a loss tells that as well as a success.
    fn answered(&self) {
        if self.round.state.trust(self.reservation.id) {
            try_the_doubtful(&self.round.state, &self.round.pipeline);
        }
    }

    /// Redis has renewed it. That is nothing to one whose release was asked for meanwhile: nobody renews it again.
    fn renewed(&self) {
        fail_point!("renewed", self.reservation.key());
        let Round { state, sent, is_told, .. } = &*self.round;
        state.update(self.reservation.id, |held| {
            if held.reservation.phase() != Phase::Held {
                return;
            }
            held.has_complained = false;
            // A heartbeat goes by the ttl that was agreed on when it was sent; only a caller changes it.
            if !is_told {
                held.lease.agree(self.ttl, *sent);
            }
            held.lease.renew(held.interval(), self.ttl, *sent);
            held.reservation.set_certain_until(held.lease.certain_until());
            let level = held.reservation.settings().log_level;
            if *is_told && level >= LogLevel::Info {
                let reservation = Arc::clone(&held.reservation);
                held.caller.report(level, Event::Extended { reservation, ttl: self.ttl });
            }
        });
        self.answered();
    }

    /// The answer to a renewal that nobody asked for.
    async fn settle(self, reply: Result<Value, NoReply>) {
        let (id, state) = (self.reservation.id, &self.round.state);
        match self.finish(reply, self.reservation.settings().command_timeout).await {
            Ok(None) => {}
            Ok(Some(loss)) => lose(state, id, loss),
            Err((_, error)) => {
                state.supervisor.leave_if_useless(&self.round.pipeline, &error);
                failed(state, id, error);
            }
        }
    }
}

impl Drop for Extension {
    /// One that a panic has ended has failed like any other: it is tried again.
    fn drop(&mut self) {
        if std::thread::panicking() {
            let (state, id) = (Rc::clone(&self.round.state), self.reservation.id);
            let error = Error::Internal("a renewal ended without an answer".into());
            tokio::task::spawn_local(async move { failed(&state, id, error) });
        }
    }
}

/// Sends the renewals that are due, in one turn and so in one pipeline.
fn renew(state: &Rc<EndpointState>, ids: &[u64]) {
    let Some(pipeline) = state.supervisor.current() else {
        // When the connection is up again, all are validated.
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
    for &id in ids {
        state.update(id, |held| {
            // A release may have been asked for in this very moment.
            if held.reservation.phase() != Phase::Held {
                return;
            }
            let ttl = held.lease.ttl();
            let limit = held.reservation.settings().command_timeout;
            let extension = Extension::begin(&round, held, ttl);
            let command = EXTEND.by_hash(&extension.call());
            pipeline.send_then(Lane::Renewal, command, limit, move |reply| {
                if let Ok(Some(Comparison::Ours)) = reply.as_ref().map(comparison_of) {
                    extension.renewed();
                } else {
                    tokio::task::spawn_local(extension.settle(reply));
                }
            });
            // Nothing more is due before the answer is in, or the lease is over.
            held.lease.postpone(None);
        });
    }
}

/// A renewal failed without redis having said that the key is lost. It is tried again, until the deadline: after a
/// while, or when the connection is back.
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

/// How long after a refused renewal of a lease of this ttl the next is sent: soon, unless there are so many that their tries
/// would be a burden. Some of them are always soon: when one is answered, all others follow. The first retry of a lease
/// is, if possible: its trouble may be another than that of all others, and over by then.
fn next_try(state: &EndpointState, ttl: Duration, is_new: bool) -> Duration {
    if is_new && state.may_renew_soon() {
        return jittered(RETRY);
    }
    spread(RETRY, state.doubtful().count_for(ttl), MOST_TRIES_A_SECOND)
}

/// What renewals were refused for may have passed.
pub fn try_soon(state: &Rc<EndpointState>) {
    if let Some(pipeline) = state.supervisor.current() {
        try_the_doubtful(state, &pipeline);
    }
}

/// What renewals were refused for has passed, or a new connection is good: all that wait for their next try have it now,
/// but on one connection once a second.
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
                // One that is under way already is not sent twice.
                if !held.lease.is_postponed() {
                    held.lease.postpone(Some(Moment::ZERO));
                }
            });
        }
    });
}

/// What became of a renewal that a caller asked for.
pub enum Renewal {
    /// Redis has renewed it.
    Renewed,
    /// Its release was asked for before that could be done, or another has told that it is lost.
    NotHeld,
    /// It was found lost, and nobody was told yet.
    Lost(Loss),
}

/// Renews one reservation now, for a caller who waits for the answer.
///
/// # Errors
/// Why redis could not be asked.
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
        // Whoever asks for the release is done with it, however many tries of this there were to be.
        if reservation.phase() != Phase::Held {
            return Ok(Renewal::NotHeld);
        }
        let round = Round::begin(state, &pipeline, false);
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
