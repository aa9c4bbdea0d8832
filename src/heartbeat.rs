//! Keeps what was acquired: renews in batches, and tells of a loss when redis says so or when the deadline passes.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use redis::Value;
use tokio::time::{Instant, sleep, sleep_until};

use crate::backoff::jittered;
use crate::client::{Client, Next, Reservation};
use crate::clock::Moment;
use crate::command::{Comparison, EXTEND, ScriptCall, comparison_of};
use crate::error::{Class, Error};
use crate::holding::{Holding, Phase};
use crate::lease::{Lease, Step};
use crate::limit::Limit;
use crate::link::Patience;
use crate::live::{LATE, Live};
use crate::loss::{is_held, lose, run_out};
use crate::outbox::Lane;
use crate::outlet::{Answer, Event, Loss, Ticket};
use crate::reply::Trouble;
use crate::settings::LogLevel;
use crate::settlement::{self, Sent};

/// The longest sleep while something is held: after a suspension, which stops the runtime's timers but not the lease,
/// a loss is told this soon.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);

/// How long it takes to read what lies in a socket.
const TAKING_IN: Duration = Duration::from_millis(5);

/// How long after a refused renewal the next is sent, at most.
const RETRY: Duration = Duration::from_millis(100);

/// Renewals that redis refuses, or that a shard of a cluster is not there for, are tried this often in all.
const MOST_TRIES_A_SECOND: u32 = 1_000;

/// Between two moments at which all of them are tried at once, since one had succeeded.
const RETRY_ALL: Duration = Duration::from_secs(1);

/// Starts the life of a reservation and answers the call that acquired it. Where its caller has ended meanwhile, the
/// key is given back.
pub fn keep(client: &Rc<Client>, sent: Sent, ticket: Ticket) {
    if !ticket.caller.outlet.is_open() {
        settlement::discard(client, sent);
        return;
    }
    let lease = Lease::begin(sent.settings().terms, sent.when);
    let Sent { claim, hand_overs, .. } = sent;
    let holding = client.keep(lease, Arc::clone(&ticket.caller), hand_overs, |id| {
        Arc::new(Holding::new(id, claim, lease.certain_until()))
    });
    client.update(holding.id, |reservation| next_of(reservation));
    watch(client);
    ticket.answer(Ok(Answer::Acquired(holding)));
}

/// Sees to it that the heartbeat runs.
pub fn watch(client: &Rc<Client>) {
    if !client.beating.replace(true) {
        tokio::task::spawn_local(beat(Rc::clone(client)));
    }
}

/// The heartbeat of one endpoint. Runs while anything is held.
async fn beat(client: Rc<Client>) {
    loop {
        let now = Moment::now();
        let mut renewals = Vec::new();
        for (id, step) in client.take_due(now) {
            match step {
                Step::Renew => renewals.push(id),
                Step::Sleep(until) => client.update(id, |_| Next::At(until)),
                Step::Expired => run_out(&client, id, false),
                Step::HeldTooLong => run_out(&client, id, true),
            }
        }
        if !renewals.is_empty() {
            renew(&client, &renewals);
        }
        if client.holds_nothing() {
            client.beating.set(false);
            return;
        }
        let pause = client.next_due().map_or(LONGEST_SLEEP, |next| Moment::now().until(next));
        let end = Instant::now() + pause.min(LONGEST_SLEEP);
        tokio::select! {
            () = sleep_until(end) => {}
            () = client.earlier.notified() => {}
        }
        // This process was stopped. What answers came meanwhile are taken in first: one may be of a renewal, without
        // which a lease that stands would be told lost.
        if end.elapsed() > LATE {
            sleep(TAKING_IN).await;
        }
    }
}

/// When a reservation needs attention next.
fn next_of(reservation: &Reservation) -> Next {
    Next::At(reservation.lease.next())
}

/// After a reconnect: asks at once whether everything is still ours.
pub fn validate_all(client: &Client) {
    for id in client.find(|one| one.holding.phase() == Phase::Held && !one.never_renews()) {
        client.update(id, |reservation| {
            reservation.lease.postpone(Some(Moment::ZERO));
            next_of(reservation)
        });
    }
}

/// Extends that were sent together.
struct Round {
    client: Rc<Client>,
    live: Rc<Live>,
    /// The moment before they were sent.
    sent: Moment,
    /// Each success is an event.
    is_told: bool,
}

impl Round {
    /// To be sent now.
    fn begin(client: &Rc<Client>, live: &Rc<Live>, is_told: bool) -> Rc<Self> {
        let (client, live) = (Rc::clone(client), Rc::clone(live));
        Rc::new(Self { client, live, sent: Moment::now(), is_told })
    }
}

/// One extend that was sent.
struct Extension {
    round: Rc<Round>,
    holding: Arc<Holding>,
    ttl: Duration,
}

impl Extension {
    fn call(&self) -> ScriptCall<'_> {
        ScriptCall { claim: &self.holding.claim, ttl: Some(self.ttl), next: None }
    }

    /// Takes in the answer. `Ok(None)`: renewed, or no longer ours to renew; `Ok(Some)`: lost.
    async fn finish(&self, reply: Result<Value, Trouble>, limit: Duration) -> Result<Option<Loss>, Error> {
        let holding = &self.holding;
        let holder = match self.round.live.compared(reply, &EXTEND, &self.call(), limit).await {
            Ok(Comparison::Ours | Comparison::Freed) => {
                self.renewed();
                return Ok(None);
            }
            Ok(Comparison::Gone) => None,
            Ok(Comparison::Other(holder)) => holder,
            Err(trouble) => {
                let error = trouble.to_error(holding.settings(), "EXTEND", holding.key());
                return Err(match trouble {
                    Trouble::Dropped => self.round.client.link.failure().unwrap_or(error),
                    _ => error,
                });
            }
        };
        Ok(Some(Loss { holding: Arc::clone(holding), holder }))
    }

    /// Redis has renewed it.
    fn renewed(&self) {
        let Round { client, sent, is_told, .. } = &*self.round;
        let mut recovers = false;
        client.update(self.holding.id, |reservation| {
            recovers = std::mem::take(&mut reservation.complained);
            reservation.lease.set_ttl(self.ttl);
            reservation.lease.renew(reservation.interval(), *sent);
            if reservation.holding.phase() != Phase::Held {
                return Next::AsPlanned;
            }
            reservation.holding.extend(reservation.lease.certain_until());
            let level = reservation.holding.settings().log_level;
            if *is_told && level >= LogLevel::Info {
                let holding = Arc::clone(&reservation.holding);
                reservation.caller.report(level, Event::Extended { holding, ttl: self.ttl });
            }
            next_of(reservation)
        });
        if recovers {
            client.failing.set(client.failing.get().saturating_sub(1));
            retry_all(client);
        }
    }

    /// The answer to a renewal that nobody asked for.
    async fn settle(self, reply: Result<Value, Trouble>) {
        let (id, client) = (self.holding.id, &self.round.client);
        match self.finish(reply, self.holding.settings().command_timeout).await {
            Ok(None) => {}
            Ok(Some(loss)) => lose(client, id, loss),
            Err(error) => {
                client.link.leave_if_useless(&self.round.live, &error);
                failed(client, id, error, Some(Moment::now().after(next_try(client))));
            }
        }
    }
}

/// Sends the renewals that are due, in one turn and so in one pipeline.
fn renew(client: &Rc<Client>, ids: &[u64]) {
    let Some(live) = client.link.current() else {
        // The one who mends the connection brings it up, and then all are validated.
        for &id in ids {
            let error = client.link.failure().unwrap_or_else(|| Error::Connection {
                endpoint: Arc::clone(&client.link.endpoint),
                detail: "the connection was lost".into(),
                reason: "ECONNRESET",
            });
            failed(client, id, error, None);
        }
        return;
    };
    let round = Round::begin(client, &live, true);
    for &id in ids {
        client.update(id, |reservation| {
            let (holding, ttl) = (Arc::clone(&reservation.holding), reservation.lease.ttl());
            let limit = holding.settings().command_timeout;
            let extension = Extension { round: Rc::clone(&round), holding, ttl };
            let command = EXTEND.by_hash(&extension.call());
            live.send_then(Lane::Renewal, command, limit, move |reply| {
                if let Ok(Some(Comparison::Ours)) = reply.as_ref().map(comparison_of) {
                    extension.renewed();
                } else {
                    tokio::task::spawn_local(extension.settle(reply));
                }
            });
            reservation.lease.postpone(None);
            // Nothing more is due before the answer is in, or its time is up, unless the lease ends before that.
            let end = reservation.lease.certain_until();
            if end <= round.sent.after(limit) { Next::At(end) } else { Next::Never }
        });
    }
}

/// A renewal failed without redis having said that the key is lost. It is tried again at `retry`, or when the
/// connection is back (`None`), until the deadline.
fn failed(client: &Client, id: u64, error: Error, retry: Option<Moment>) {
    if !is_held(client, id) {
        return;
    }
    let is_up = client.link.current().is_some();
    client.update(id, |reservation| {
        reservation.lease.postpone(if is_up { retry } else { None });
        if !std::mem::replace(&mut reservation.complained, true) {
            client.failing.set(client.failing.get() + 1);
            let holding = Arc::clone(&reservation.holding);
            let level = reservation.holding.settings().log_level;
            reservation.caller.report(level, Event::ExtendFailed { holding, error });
        }
        next_of(reservation)
    });
}

/// How long after a refused renewal the next is sent: soon, unless there are so many that their tries would be a burden.
fn next_try(client: &Client) -> Duration {
    jittered(RETRY.max(Duration::from_secs(1) / MOST_TRIES_A_SECOND * client.failing.get()))
}

/// What one renewal was refused for has passed: all that wait for their next try have it now.
fn retry_all(client: &Client) {
    if client.failing.get() == 0 || client.retried.get().is_some_and(|when| when.elapsed() < RETRY_ALL) {
        return;
    }
    client.retried.set(Some(Instant::now()));
    for id in client.find(|one| one.complained) {
        client.update(id, |reservation| {
            // One that is under way already is not sent twice.
            if reservation.lease.is_postponed() {
                return Next::AsPlanned;
            }
            reservation.lease.postpone(Some(Moment::ZERO));
            next_of(reservation)
        });
    }
}

/// Renews one reservation now, for a caller who waits for the answer. `Ok(None)`: renewed; `Ok(Some)`: it was lost,
/// which the caller tells.
///
/// # Errors
/// Why redis could not be asked.
pub async fn renew_now(client: &Rc<Client>, id: u64, ttl: Duration) -> Result<Option<Loss>, Error> {
    let Some(holding) = client.with(id, |reservation| {
        // A shorter ttl counts from now on, since redis may apply it and its answer be lost; a longer one only once
        // redis has confirmed it.
        let shorter = reservation.lease.ttl().min(ttl);
        reservation.lease.set_ttl(shorter);
        reservation.holding.extend(reservation.lease.certain_until());
        Arc::clone(&reservation.holding)
    }) else {
        return Ok(None);
    };
    let settings = holding.settings();
    let mut limit = Limit::new(settings.command_timeout);
    let mut refusal = None;
    let loss = loop {
        let live = client.link.live(Patience::Call, settings.connect_timeout).await?;
        // The connection that the last refusal cost may have taken the time that was left.
        if !limit.has_time()
            && let Some(refusal) = refusal.take()
        {
            return Err(refusal);
        }
        let round = Round::begin(client, &live, false);
        let extension = Extension { round, holding: Arc::clone(&holding), ttl };
        let remaining = limit.remaining();
        let command = EXTEND.by_hash(&extension.call());
        let reply = live.send(Lane::Renewal, command, remaining).reply().await;
        let error = match extension.finish(reply, remaining).await {
            Ok(loss) => break loss,
            Err(error) => error,
        };
        client.link.leave_if_useless(&live, &error);
        // An extend may run twice. What passes, or broke with the connection, is tried again while there is time.
        let is_worth_a_retry = matches!(error.class(), Class::Later | Class::Reconnect | Class::Unknown);
        if !is_worth_a_retry || !limit.pause().await {
            return Err(error);
        }
        refusal = Some(error);
    };
    if loss.is_some() && is_held(client, id) && client.take(id).is_some() {
        holding.enter(Phase::Over);
        return Ok(loss);
    }
    Ok(None)
}
