//! Keeps what was acquired: renews in batches, and tells of a loss when redis says so or when the deadline passes.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::sleep;

use crate::backoff::jittered;
use crate::client::{Client, Next, Reservation};
use crate::clock::Moment;
use crate::command::{Comparison, EXTEND, ScriptCall};
use crate::error::{Class, Error};
use crate::holding::{Holding, Phase};
use crate::lease::{Lease, Step};
use crate::limit::Limit;
use crate::link::Patience;
use crate::live::{Live, Pending, Trouble};
use crate::outbox::Lane;
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
    let hand_overs = sent.hand_overs;
    let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
    let holding = Arc::new(Holding::new(id, sent.key, sent.value, sent.settings, lease.certain_until()));
    client.keep(Arc::clone(&holding), lease, ticket.caller.clone(), hand_overs);
    client.update(id, |reservation| next_of(reservation));
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
        tokio::select! {
            () = sleep(pause.min(LONGEST_SLEEP)) => {}
            () = client.earlier.notified() => {}
        }
    }
}

/// When a reservation needs attention next.
fn next_of(reservation: &Reservation) -> Next {
    let now = Moment::now();
    Next::At(match reservation.lease.step(now) {
        Step::Sleep(until) => until,
        Step::Renew | Step::Expired | Step::HeldTooLong => now,
    })
}

/// After a reconnect: asks at once whether everything is still ours.
pub fn validate_all(client: &Client) {
    for id in client.find(|one| one.holding.phase() == Phase::Held && !one.lease.terms.never_renews()) {
        client.update(id, |reservation| {
            reservation.lease.postpone(Some(Moment::ZERO));
            next_of(reservation)
        });
    }
}

/// One extend that is on its way.
struct Extension {
    holding: Arc<Holding>,
    call: ScriptCall,
    pending: Pending,
    /// The moment before it was sent.
    sent: Moment,
}

impl Extension {
    fn send(live: &Rc<Live>, holding: Arc<Holding>, ttl: Duration, sent: Moment) -> Self {
        let call = ScriptCall {
            key: Arc::clone(&holding.key),
            value: Arc::clone(&holding.value),
            ttl: Some(ttl),
            next: None,
        };
        Self { pending: live.send(Lane::Renewal, EXTEND.by_hash(&call)), holding, call, sent }
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
    let sent = Moment::now();
    let mut extensions = Vec::with_capacity(ids.len());
    for &id in ids {
        client.update(id, |reservation| {
            let holding = Arc::clone(&reservation.holding);
            let answer_by = sent.after(holding.settings.command_timeout);
            extensions.push(Extension::send(&live, holding, reservation.lease.terms.ttl, sent));
            reservation.lease.postpone(None);
            // Nothing more is due before the answer is in, or its time is up, unless the lease ends before that.
            let end = reservation.lease.certain_until();
            if end <= answer_by { Next::At(end) } else { Next::Never }
        });
    }
    let client = Rc::clone(client);
    tokio::task::spawn_local(async move {
        for extension in extensions {
            let (id, limit) = (extension.holding.id, extension.holding.settings.command_timeout);
            let found = renewed(&client, &live, extension, limit, true).await;
            match found {
                Ok(None) => {}
                Ok(Some(loss)) => lose(&client, id, loss),
                Err(error) => {
                    client.link.leave_if_useless(&live, &error);
                    failed(&client, id, error, Some(Moment::now().after(jittered(RETRY))));
                }
            }
        }
    });
}

/// Takes in the answer to one extend. `Ok(None)`: renewed, or no longer ours to renew; `Ok(Some)`: lost.
async fn renewed(
    client: &Client,
    live: &Rc<Live>,
    extension: Extension,
    limit: Duration,
    is_told: bool,
) -> Result<Option<Loss>, Error> {
    let Extension { holding, call, pending, sent } = extension;
    let found = live.compared(pending, &EXTEND, &call, limit).await;
    let holder = match found {
        Ok(Comparison::Ours | Comparison::Freed) => {
            client.update(holding.id, |reservation| {
                let ttl = call.ttl.unwrap_or(reservation.lease.terms.ttl);
                reservation.complained = false;
                reservation.lease.terms.ttl = ttl;
                reservation.lease.renew(sent);
                if reservation.holding.phase() != Phase::Held {
                    return Next::AsPlanned;
                }
                reservation.holding.extend(reservation.lease.certain_until());
                if is_told {
                    let holding = Arc::clone(&reservation.holding);
                    let level = holding.settings.log_level;
                    reservation.caller.report(level, Event::Extended { holding, ttl });
                }
                next_of(reservation)
            });
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
    Ok(Some(Loss { key: call.key, value: call.value, holder }))
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
    client.update(id, |reservation| {
        reservation.lease.postpone(if is_up { retry } else { None });
        if !std::mem::replace(&mut reservation.complained, true) {
            let key = Arc::clone(&reservation.holding.key);
            let level = reservation.holding.settings.log_level;
            reservation.caller.report(level, Event::ExtendFailed { key, error });
        }
        next_of(reservation)
    });
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
        hand_overs: 0,
        origin: None,
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
        let terms = &mut reservation.lease.terms;
        terms.ttl = terms.ttl.min(ttl);
        reservation.holding.extend(reservation.lease.certain_until());
        Arc::clone(&reservation.holding)
    }) else {
        return Ok(None);
    };
    let settings = &holding.settings;
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
        let remaining = limit.remaining();
        let extension = Extension::send(&live, Arc::clone(&holding), ttl, Moment::now());
        let error = match renewed(client, &live, extension, remaining, false).await {
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
