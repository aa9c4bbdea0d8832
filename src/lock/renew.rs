//! Keeps what was acquired: renews in batches, and tells of a loss when redis says so or when the deadline passes.

use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use redis::Value;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until};

use crate::connection::pipeline::{LATE, Live};
use crate::connection::reply::Trouble;
use crate::connection::send_queue::Lane;
use crate::connection::supervisor::Patience;
use crate::lock::attempts::Attempts;
use crate::lock::endpoint_state::{Client, Reservation};
use crate::lock::loss::{end_lost, lose, run_out};
use crate::lock::sent::Sent;
use crate::lock::undo;
use crate::model::answer::{Answer, Event, Loss, Ticket};
use crate::model::error::Error;
use crate::model::lease::{Asking, Lease, Step};
use crate::model::reservation::{Holding, Phase};
use crate::model::settings::LogLevel;
use crate::protocol::command::{Comparison, EXTEND, ScriptCall, comparison_of};
use crate::time::backoff::jittered;
use crate::time::budget::Limit;
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

/// Renewals that a new connection is tried with. When one of them has succeeded, all others follow.
const FIRST_TO_VALIDATE: usize = 10;

/// Between two moments at which all of them are tried at once on one connection, since one had succeeded.
const RETRY_ALL: Duration = Duration::from_secs(1);

/// Starts the life of a reservation and answers the call that acquired it. Where its caller has ended meanwhile, the
/// key is given back.
pub fn keep(client: &Rc<Client>, sent: Sent, ticket: Ticket) {
    if !ticket.caller.outlet.is_open() {
        undo::discard(client, sent);
        return;
    }
    let lease = Lease::begin(sent.settings().terms, sent.when);
    let Sent { claim, hand_overs, .. } = sent;
    let holding = client.keep(lease, Arc::clone(&ticket.caller), hand_overs, |id| {
        Arc::new(Holding::new(id, claim, lease.certain_until()))
    });
    ticket.answer(Ok(Answer::Acquired(holding)));
}

/// The heartbeat of one endpoint, for as long as its client lives. `bell` is rung when something is to be done earlier
/// than was known. It starts over after a panic: then what was being dealt with is planned anew.
pub async fn beat(client: Weak<Client>, bell: Rc<Notify>) {
    if let Some(client) = client.upgrade() {
        client.plan_all();
    }
    // Without the client in hand while it sleeps: nothing here keeps it.
    while let Some(next) = client.upgrade().map(|client| turn(&client)) {
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
fn turn(client: &Rc<Client>) -> Option<Moment> {
    let mut renewals = Vec::new();
    for (id, step) in client.take_due(Moment::now()) {
        fail_point!("heartbeat", client.key_of(id));
        match step {
            Step::Renew => renewals.push(id),
            Step::Nothing => client.update(id, |_| {}),
            Step::Expired => run_out(client, id, false),
            Step::HeldTooLong => run_out(client, id, true),
        }
    }
    if !renewals.is_empty() {
        renew(client, &renewals);
    }
    client.next_due()
}

/// After a reconnect: asks whether everything is still ours. A few first: should they be refused, as by a server that was
/// demoted, the others are not a storm each time; their own tries are spread out until one succeeds.
pub fn validate_all(client: &Client) {
    let mut held = client.find(|one| one.holding.phase() == Phase::Held && !one.never_renews());
    held.sort_unstable_by_key(|&(id, end)| (end, id));
    let now = Moment::now();
    for (place, &(id, _)) in held.iter().enumerate() {
        let place = u32::try_from(place).unwrap_or(u32::MAX);
        let due = if (place as usize) < FIRST_TO_VALIDATE {
            now
        } else {
            now.after(RETRY + Duration::from_secs(1) / MOST_TRIES_A_SECOND * place)
        };
        client.doubt(id);
        client.update(id, |reservation| reservation.lease.postpone(Some(due)));
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
    asking: Asking,
}

impl Extension {
    /// An extend of this reservation that is sent now.
    fn begin(round: &Rc<Round>, reservation: &mut Reservation, ttl: Duration) -> Self {
        let asking = reservation.lease.ask(ttl, round.sent);
        Self { round: Rc::clone(round), holding: Arc::clone(&reservation.holding), ttl, asking }
    }

    fn call(&self) -> ScriptCall<'_> {
        ScriptCall { claim: &self.holding.claim, ttl: Some(self.ttl), next: None }
    }

    /// Takes in the answer. `Ok(None)`: renewed; `Ok(Some)`: lost, to whom.
    async fn finish(
        &self,
        reply: Result<Value, Trouble>,
        limit: Duration,
    ) -> Result<Option<Loss>, (Trouble, Error)> {
        let holding = &self.holding;
        let holder = match self.round.live.compared(reply, &EXTEND, &self.call(), limit).await {
            Ok(Comparison::Ours | Comparison::Freed) => {
                self.renewed();
                return Ok(None);
            }
            Ok(Comparison::Gone) => None,
            Ok(Comparison::Other(holder)) => holder,
            Err(trouble) => {
                let mut error = trouble.to_error(holding.settings(), EXTEND.name, holding.key());
                match trouble {
                    Trouble::Dropped => error = self.round.client.link.failure().unwrap_or(error),
                    Trouble::TimedOut => {}
                    Trouble::Refused(_) | Trouble::Unsent(_) | Trouble::Overdue => {
                        let asking = self.asking;
                        self.round.client.update(holding.id, |one| one.lease.was_refused(asking));
                    }
                }
                return Err((trouble, error));
            }
        };
        Ok(Some(Loss { holding: Arc::clone(holding), holder }))
    }

    /// Redis has renewed it. That is nothing to one whose release was asked for meanwhile: nobody renews it again.
    fn renewed(&self) {
        fail_point!("renewed", self.holding.key());
        let Round { client, live, sent, is_told } = &*self.round;
        let is_good_news = client.trust(self.holding.id);
        client.update(self.holding.id, |reservation| {
            if reservation.holding.phase() != Phase::Held {
                return;
            }
            reservation.has_complained = false;
            // A heartbeat goes by the ttl that was agreed on when it was sent; only a caller changes it.
            if !is_told {
                reservation.lease.agree(self.ttl, *sent);
            }
            reservation.lease.renew(reservation.interval(), self.ttl, *sent);
            reservation.holding.set_certain_until(reservation.lease.certain_until());
            let level = reservation.holding.settings().log_level;
            if *is_told && level >= LogLevel::Info {
                let holding = Arc::clone(&reservation.holding);
                reservation.caller.report(level, Event::Extended { holding, ttl: self.ttl });
            }
        });
        if is_good_news {
            try_the_doubtful(client, live);
        }
    }

    /// The answer to a renewal that nobody asked for.
    async fn settle(self, reply: Result<Value, Trouble>) {
        let (id, client) = (self.holding.id, &self.round.client);
        match self.finish(reply, self.holding.settings().command_timeout).await {
            Ok(None) => {}
            Ok(Some(loss)) => lose(client, id, loss),
            Err((_, error)) => {
                client.link.leave_if_useless(&self.round.live, &error);
                failed(client, id, error);
            }
        }
    }
}

impl Drop for Extension {
    /// One that a panic has ended has failed like any other: it is tried again.
    fn drop(&mut self) {
        if std::thread::panicking() {
            let (client, id) = (Rc::clone(&self.round.client), self.holding.id);
            let error = Error::Internal("a renewal ended without an answer".into());
            tokio::task::spawn_local(async move { failed(&client, id, error) });
        }
    }
}

/// Sends the renewals that are due, in one turn and so in one pipeline.
fn renew(client: &Rc<Client>, ids: &[u64]) {
    let Some(live) = client.link.current() else {
        // When the connection is up again, all are validated.
        for &id in ids {
            let error = client.link.failure().unwrap_or_else(|| Error::Connection {
                endpoint: Arc::clone(&client.link.endpoint),
                detail: "the connection was lost".into(),
                reason: "ECONNRESET",
            });
            failed(client, id, error);
        }
        return;
    };
    let round = Round::begin(client, &live, true);
    for &id in ids {
        client.update(id, |reservation| {
            // A release may have been asked for in this very moment.
            if reservation.holding.phase() != Phase::Held {
                return;
            }
            let ttl = reservation.lease.ttl();
            let limit = reservation.holding.settings().command_timeout;
            let extension = Extension::begin(&round, reservation, ttl);
            let command = EXTEND.by_hash(&extension.call());
            live.send_then(Lane::Renewal, command, limit, move |reply| {
                if let Ok(Some(Comparison::Ours)) = reply.as_ref().map(comparison_of) {
                    extension.renewed();
                } else {
                    tokio::task::spawn_local(extension.settle(reply));
                }
            });
            // Nothing more is due before the answer is in, or the lease is over.
            reservation.lease.postpone(None);
        });
    }
}

/// A renewal failed without redis having said that the key is lost. It is tried again, until the deadline: after a
/// while, or when the connection is back.
fn failed(client: &Client, id: u64, error: Error) {
    let retry = client.link.current().map(|_| Moment::now().after(next_try(client)));
    let mut is_held = false;
    client.update(id, |reservation| {
        is_held = reservation.holding.phase() == Phase::Held;
        if !is_held {
            return;
        }
        reservation.lease.postpone(retry);
        if !std::mem::replace(&mut reservation.has_complained, true) {
            let holding = Arc::clone(&reservation.holding);
            let level = reservation.holding.settings().log_level;
            reservation.caller.report(level, Event::ExtendFailed { holding, error });
        }
    });
    if is_held {
        client.doubt(id);
    }
}

/// How long after a refused renewal the next is sent: soon, unless there are so many that their tries would be a burden.
/// Some of them are always soon: when one succeeds, all others follow.
fn next_try(client: &Client) -> Duration {
    let doubtful = u32::try_from(client.doubtful().len()).unwrap_or(u32::MAX);
    let spread = (Duration::from_secs(1) / MOST_TRIES_A_SECOND).saturating_mul(doubtful);
    jittered(RETRY) + spread.mul_f64(fastrand::f64())
}

/// What renewals were refused for has passed, or a new connection is good: all that wait for their next try have it now.
fn try_the_doubtful(client: &Client, live: &Live) {
    let doubtful: Vec<u64> = client.doubtful().iter().copied().collect();
    let recently = live.retried.get().is_some_and(|when| when.elapsed() < RETRY_ALL);
    if doubtful.is_empty() || recently {
        return;
    }
    live.retried.set(Some(Instant::now()));
    for id in doubtful {
        client.update(id, |reservation| {
            // One that is under way already is not sent twice.
            if !reservation.lease.is_postponed() {
                reservation.lease.postpone(Some(Moment::ZERO));
            }
        });
    }
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
pub async fn renew_now(client: &Rc<Client>, id: u64, ttl: Duration) -> Result<Renewal, Error> {
    let mut holding = None;
    client.update(id, |reservation| {
        reservation.lease.shorten(ttl, Moment::now());
        reservation.holding.set_certain_until(reservation.lease.certain_until());
        holding = Some(Arc::clone(&reservation.holding));
    });
    let Some(holding) = holding else { return Ok(Renewal::NotHeld) };
    let settings = holding.settings();
    let mut attempts = Attempts::new(client, settings, Limit::new(settings.command_timeout));
    loop {
        let live = attempts.connection(Patience::Call).await?;
        // Whoever asks for the release is done with it, however many tries of this there were to be.
        if holding.phase() != Phase::Held {
            return Ok(Renewal::NotHeld);
        }
        let round = Round::begin(client, &live, false);
        let mut extension = None;
        client.update(id, |one| extension = Some(Extension::begin(&round, one, ttl)));
        let Some(extension) = extension else { return Ok(Renewal::NotHeld) };
        let limit = attempts.remaining();
        let command = EXTEND.by_hash(&extension.call());
        let reply = live.send(Lane::Renewal, command, limit).reply().await;
        match extension.finish(reply, limit).await {
            Ok(None) => return Ok(Renewal::Renewed),
            // A release that was asked for finds out by itself, and tells it.
            Ok(Some(loss)) => {
                let is_found = end_lost(client, id, &loss).is_some();
                return Ok(if is_found { Renewal::Lost(loss) } else { Renewal::NotHeld });
            }
            // An extend may run twice.
            Err((trouble, error)) => attempts.failed(&live, &trouble, error).await?,
        }
    }
}
