//! Keeps what was acquired: renews in batches, and tells of a loss when redis says so or when the deadline passes.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::sleep;

use crate::backoff::jittered;
use crate::client::Client;
use crate::clock::Moment;
use crate::command::{Comparison, EXTEND, ScriptCall};
use crate::error::{Class, Error};
use crate::holding::{Holding, Phase};
use crate::lease::{Lease, Step};
use crate::limit::Limit;
use crate::link::Patience;
use crate::live::{Live, Pending, Trouble};
use crate::outlet::{Answer, Event, Loss, Ticket};
use crate::settlement::{self, Sent};

/// The longest sleep while something is held: after a suspension, which stops the runtime's timers but not the lease,
/// a loss is told this soon.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);

/// How long after a refused renewal the next is sent, at most.
const RETRY: Duration = Duration::from_millis(100);

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// Starts the life of a reservation and answers the call that acquired it. Where its caller has ended meanwhile, the
/// key is given back.
pub fn keep(client: &Rc<Client>, sent: Sent, ticket: Ticket) {
    if !ticket.caller.outlet.is_open() {
        settlement::discard(client, sent);
        return;
    }
    let lease = Lease::begin(sent.settings.terms, sent.when);
    let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
    let holding = Arc::new(Holding::new(id, sent.key, sent.value, sent.settings, lease.certain_until()));
    client.keep(Arc::clone(&holding), lease, ticket.caller.clone());
    plan(client, id);
    watch(client);
    ticket.answer(Ok(Answer::Acquired(holding)));
}

/// Sees to it that the heartbeat runs.
pub fn watch(client: &Rc<Client>) {
    if !client.beating.replace(true) {
        tokio::task::spawn_local(beat(Rc::clone(client)));
    }
}

/// The heartbeat of one endpoint. Runs while anything is scheduled.
async fn beat(client: Rc<Client>) {
    loop {
        let now = Moment::now();
        let mut renewals = Vec::new();
        for id in client.take_due(now) {
            match client.with(id, |reservation| reservation.lease.step(now)) {
                Some(Step::Renew) => renewals.push(id),
                Some(Step::Sleep(until)) => client.plan(id, Some(until)),
                Some(Step::Expired) => run_out(&client, id, false),
                Some(Step::HeldTooLong) => run_out(&client, id, true),
                None => {}
            }
        }
        if !renewals.is_empty() {
            renew(&client, &renewals);
        }
        let Some(next) = client.next_due() else {
            client.beating.set(false);
            return;
        };
        tokio::select! {
            () = sleep(Moment::now().until(next).min(LONGEST_SLEEP)) => {}
            () = client.earlier.notified() => {}
        }
    }
}

/// Plans the next look at a reservation from its lease.
fn plan(client: &Client, id: u64) {
    let when = client.with(id, |reservation| match reservation.lease.step(Moment::now()) {
        Step::Sleep(until) => until,
        Step::Renew | Step::Expired | Step::HeldTooLong => Moment::now(),
    });
    client.plan(id, when);
}

/// After a reconnect: asks at once whether everything is still ours.
pub fn validate_all(client: &Client) {
    for id in client.find(|one| one.holding.phase() == Phase::Held && !one.lease.terms.never_renews()) {
        client.with(id, |reservation| reservation.lease.postpone(Some(Moment::ZERO)));
        plan(client, id);
    }
}

/// Sends the renewals that are due, in one turn and so in one pipeline.
fn renew(client: &Rc<Client>, ids: &[u64]) {
    let Some(live) = client.link.current() else {
        // The one who mends the connection brings it up, and then all are validated.
        for &id in ids {
            let error = client.link.failure().unwrap_or_else(|| Error::Connection {
                endpoint: client.link.endpoint.to_string(),
                detail: "the connection was lost".into(),
                reason: "ECONNRESET",
            });
            failed(client, id, error, None);
        }
        return;
    };
    let sent = Moment::now();
    let mut pending = Vec::with_capacity(ids.len());
    for &id in ids {
        let Some((holding, call)) = client.with(id, |reservation| {
            // Until the answer is in, the next look is at the deadline.
            reservation.lease.postpone(None);
            let holding = Arc::clone(&reservation.holding);
            let call = call_of(&holding, reservation.lease.terms.ttl);
            (holding, call)
        }) else {
            continue;
        };
        plan(client, id);
        pending.push((holding, live.send(EXTEND.by_hash(&call)), call));
    }
    let client = Rc::clone(client);
    tokio::task::spawn_local(async move {
        for (holding, pending, call) in pending {
            let (id, limit) = (holding.id, holding.settings.command_timeout);
            let found = renewed(&client, &live, pending, &holding, &call, limit, sent).await;
            match found {
                Ok(None) => tell_extended(&client, id),
                Ok(Some(loss)) => lose(&client, id, loss),
                Err(error) => {
                    client.link.leave_if_useless(&live, &error);
                    failed(&client, id, error, Some(Moment::now().after(jittered(RETRY))));
                }
            }
        }
    });
}

fn tell_extended(client: &Client, id: u64) {
    client.with(id, |reservation| {
        let holding = Arc::clone(&reservation.holding);
        reservation.caller.report(
            holding.settings.log_level,
            Event::Extended { ttl: reservation.lease.terms.ttl, holding },
        );
    });
}

fn call_of(holding: &Holding, ttl: Duration) -> ScriptCall {
    ScriptCall {
        key: Arc::clone(&holding.key),
        value: Arc::clone(&holding.value),
        ttl: Some(ttl),
        next: None,
    }
}

/// Takes in the answer to one extend. `Ok(None)`: renewed, or no longer ours to renew; `Ok(Some)`: lost.
async fn renewed(
    client: &Client,
    live: &Rc<Live>,
    pending: Pending,
    holding: &Holding,
    call: &ScriptCall,
    limit: Duration,
    sent: Moment,
) -> Result<Option<Loss>, Error> {
    let id = holding.id;
    let found = live.compared(pending, &EXTEND, call, limit).await;
    let holder = match found {
        Ok(Comparison::Ours) => {
            client.with(id, |reservation| {
                reservation.complained = false;
                reservation.lease.terms.ttl = call.ttl.unwrap_or(reservation.lease.terms.ttl);
                reservation.lease.renew(sent);
                reservation.holding.extend(reservation.lease.certain_until());
            });
            if is_held(client, id) {
                plan(client, id);
            }
            return Ok(None);
        }
        Ok(Comparison::Gone) => None,
        Ok(Comparison::Other(holder)) => holder,
        Err(trouble) => {
            let error = trouble.to_error(&holding.settings, "EXTEND", &call.key);
            return Err(match trouble {
                Trouble::Dropped => client.link.failure().unwrap_or(error),
                _ => error,
            });
        }
    };
    Ok(Some(Loss { key: Arc::clone(&call.key), value: Arc::clone(&call.value), holder }))
}

fn is_held(client: &Client, id: u64) -> bool {
    client.with(id, |reservation| reservation.holding.phase() == Phase::Held).unwrap_or(false)
}

/// A renewal failed without redis having said that the key is lost. It is tried again at `retry`, or when the
/// connection is back (`None`), until the deadline.
fn failed(client: &Client, id: u64, error: Error, retry: Option<Moment>) {
    if !is_held(client, id) {
        return;
    }
    let is_up = client.link.current().is_some();
    client.with(id, |reservation| {
        reservation.lease.postpone(if is_up { retry } else { None });
        if !std::mem::replace(&mut reservation.complained, true) {
            let key = Arc::clone(&reservation.holding.key);
            reservation
                .caller
                .report(reservation.holding.settings.log_level, Event::ExtendFailed { key, error });
        }
    });
    plan(client, id);
}

/// Redis has said that a reservation is not ours any more.
fn lose(client: &Client, id: u64, loss: Loss) {
    // A release that is under way finds out by itself, and tells it.
    if !is_held(client, id) {
        return;
    }
    let Some(reservation) = client.take(id) else {
        return;
    };
    reservation.holding.enter(Phase::Over);
    let holding = Arc::clone(&reservation.holding);
    let level = holding.settings.log_level;
    reservation.caller.report(level, Event::Lost { holding, loss, quiet: false });
    client.changed(&reservation.holding.key);
}

/// A reservation's time is over by our clock, or it was held for as long as it may be.
fn run_out(client: &Rc<Client>, id: u64, held_too_long: bool) {
    let Some(reservation) = client.take(id) else {
        return;
    };
    let holding = Arc::clone(&reservation.holding);
    let level = holding.settings.log_level;
    let phase = holding.phase();
    if phase != Phase::Held {
        let unknown = phase == Phase::ReleaseUnknown;
        holding.enter(if unknown { Phase::LapsedAfterRelease } else { Phase::Lapsed });
        reservation.caller.report(level, Event::Lapsed { holding });
        return;
    }
    let quiet = reservation.lease.terms.never_renews() && !held_too_long;
    holding.enter(if quiet { Phase::Lapsed } else { Phase::Over });
    let loss = Loss { key: Arc::clone(&holding.key), value: Arc::clone(&holding.value), holder: None };
    // A renewal whose answer was lost must not keep a key alive that was told lost.
    settlement::discard(client, sent_of(&holding));
    reservation.caller.report(level, Event::Lost { holding, loss, quiet });
}

/// What is to be deleted. No connection needs to be killed for it: an extend that arrives late finds nothing.
fn sent_of(holding: &Holding) -> Sent {
    Sent {
        key: Arc::clone(&holding.key),
        value: Arc::clone(&holding.value),
        settings: Arc::clone(&holding.settings),
        when: Moment::now(),
        origin: None,
    }
}

/// Renews one reservation now, for a caller who waits for the answer. `Ok(None)`: renewed; `Ok(Some)`: it was lost,
/// which the caller tells.
///
/// # Errors
/// Why redis could not be asked.
pub async fn renew_now(client: &Rc<Client>, id: u64, ttl: Duration) -> Result<Option<Loss>, Error> {
    let Some((holding, call)) = client.with(id, |reservation| {
        // A shorter ttl counts from now on, since redis may apply it and its answer be lost; a longer one only once
        // redis has confirmed it.
        let terms = &mut reservation.lease.terms;
        terms.ttl = terms.ttl.min(ttl);
        reservation.holding.extend(reservation.lease.certain_until());
        (Arc::clone(&reservation.holding), call_of(&reservation.holding, ttl))
    }) else {
        return Ok(None);
    };
    let settings = &holding.settings;
    let mut limit = Limit::new(settings.command_timeout);
    let loss = loop {
        let live = client.link.live(Patience::Call, settings.connect_timeout).await?;
        let remaining = limit.remaining();
        let sent = Moment::now();
        let pending = live.send(EXTEND.by_hash(&call));
        let error = match renewed(client, &live, pending, &holding, &call, remaining, sent).await {
            Ok(loss) => break loss,
            Err(error) => error,
        };
        client.link.leave_if_useless(&live, &error);
        // An extend may run twice. What passes, or broke with the connection, is tried again while there is time.
        let is_worth_a_retry = matches!(error.class(), Class::Later | Class::Reconnect | Class::Unknown);
        if !is_worth_a_retry || !limit.pause().await {
            return Err(error);
        }
    };
    if loss.is_some() && is_held(client, id) && client.take(id).is_some() {
        holding.enter(Phase::Over);
        return Ok(loss);
    }
    Ok(None)
}
