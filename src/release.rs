//! Giving back what is held: one compare-and-delete each, or a hand-over to the next waiter of this process, and what
//! each of the answers means.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use redis::Value;
use tokio::time::Instant;

use crate::client::{Client, Next};
use crate::clock::Moment;
use crate::command::{Comparison, HAND_OVER, RELEASE, Script, ScriptCall, comparison_of};
use crate::error::{Class, Error};
use crate::heartbeat;
use crate::holding::{Holding, Phase};
use crate::lease::Lease;
use crate::limit::Limit;
use crate::link::Patience;
use crate::live::Live;
use crate::outbox::Lane;
use crate::outlet::Loss;
use crate::queue::{Head, Queue};
use crate::reply::Trouble;
use crate::settlement::{self, Origin, Sent};
use crate::waiting;

/// What became of one reservation that was to be released.
pub enum Outcome {
    /// Freed.
    Released,
    /// It was not ours any more, and nobody has told so yet.
    Lost(Loss),
    /// Redis could not be asked, or refused; it may be released again.
    Failed(Arc<str>, Error),
    /// Nothing to do: it is over, or somebody else is releasing it.
    Nothing,
}

/// How often in a row a key goes from holder to holder inside this process before it is plainly freed, so that waiters
/// of other processes get a turn.
const MOST_HAND_OVERS: u32 = 10;

/// The waiter of this process that a key is handed to, and what it is set to for him.
struct Heir {
    queue: Rc<Queue>,
    head: Head,
    sent: Sent,
}

/// A release that is under way: the one that may end its reservation.
struct Release {
    client: Rc<Client>,
    holding: Arc<Holding>,
    heir: Option<Heir>,
    hand_overs: u32,
    /// Whether a release whose answer was lost has done it is not known.
    is_unknown: Cell<bool>,
}

/// A command whose reply is there, and when it was sent.
type Tried = (Rc<Live>, Instant, Result<Value, Trouble>);

/// Releases one reservation; `done` is told what became of it. What goes well, as nearly all does, is dealt with right
/// where the reply comes in; a task is made only for what takes more than one command.
pub fn release(client: &Rc<Client>, holding: Arc<Holding>, done: impl FnOnce(Outcome) + 'static) {
    let mine = client.with(holding.id, |reservation| {
        (!std::mem::replace(&mut reservation.releasing, true)).then_some(reservation.hand_overs)
    });
    let hand_overs = match mine {
        Some(Some(hand_overs)) => hand_overs,
        Some(None) => return done(Outcome::Nothing),
        None => return done(tell_what_lapsed(&holding)),
    };
    holding.give_up();
    client.update(holding.id, |_| Next::Never);
    let is_unknown = Cell::new(holding.phase() == Phase::ReleaseUnknown);
    let heir = heir_of(client, holding.key(), hand_overs);
    let release = Release { client: Rc::clone(client), holding, heir, hand_overs, is_unknown };
    let Some(live) = release.client.link.current() else {
        tokio::task::spawn_local(async move { done(release.go_on(None).await) });
        return;
    };
    let (script, call) = release.script();
    let command = script.by_hash(&call);
    let (limit, began) = (release.holding.settings().command_timeout, live.turn());
    Rc::clone(&live).send_then(Lane::Release, command, limit, move |reply| {
        match reply.as_ref().ok().and_then(comparison_of) {
            Some(Comparison::Ours) => done(release.freed(Comparison::Ours)),
            _ => {
                tokio::task::spawn_local(
                    async move { done(release.go_on(Some((live, began, reply))).await) },
                );
            }
        }
    });
}

impl Release {
    /// The rest of a release that one reply did not settle.
    async fn go_on(self, tried: Option<Tried>) -> Outcome {
        match self.compare_and_free(tried).await {
            Ok(found) => self.freed(found),
            Err(error) => self.failed(error),
        }
    }

    /// Redis has answered.
    fn freed(self, found: Comparison) -> Outcome {
        let Self { client, holding, heir, hand_overs, is_unknown, .. } = self;
        client.take(holding.id);
        holding.enter(Phase::Over);
        match (&found, heir) {
            (Comparison::Ours, Some(heir)) => hand_over(&client, heir),
            (_, _) => plainly_freed(&client, holding.key(), hand_overs),
        }
        match found {
            Comparison::Ours | Comparison::Freed => Outcome::Released,
            // An earlier release of it, whose answer was lost, has done it.
            _ if is_unknown.get() => Outcome::Released,
            Comparison::Gone => Outcome::Lost(loss_of(&holding, None)),
            Comparison::Other(holder) => Outcome::Lost(loss_of(&holding, holder)),
        }
    }

    fn failed(self, error: Error) -> Outcome {
        let Self { client, holding, is_unknown, .. } = self;
        if is_unknown.get() {
            holding.enter(Phase::ReleaseUnknown);
        }
        // It is not renewed again: its caller is done with it.
        client.update(holding.id, |reservation| {
            reservation.releasing = false;
            reservation.lease.postpone(None);
            Next::At(reservation.lease.certain_until())
        });
        heartbeat::watch(&client);
        Outcome::Failed(holding.key().into(), error)
    }

    /// Deletes the key, or sets it for the heir, if it is ours. What was sent for an heir who is not to have it after all
    /// is discarded.
    async fn compare_and_free(&self, mut tried: Option<Tried>) -> Result<Comparison, Error> {
        let (client, settings) = (&self.client, self.holding.settings());
        let (script, call) = self.script();
        let mut limit = match &tried {
            Some((_, began, _)) => Limit::since(*began, settings.command_timeout),
            None => Limit::new(settings.command_timeout),
        };
        let mut origin = None;
        let mut refusal = None;
        let error = loop {
            let (live, reply) = match tried.take() {
                Some((live, _, reply)) => (live, reply),
                None => match client.link.live(Patience::Call, settings.connect_timeout).await {
                    Ok(live) => {
                        // The connection that the last refusal cost may have taken the time that was left.
                        if !limit.has_time()
                            && let Some(refusal) = refusal.take()
                        {
                            break refusal;
                        }
                        let sent = live.send(Lane::Release, script.by_hash(&call), limit.remaining());
                        (live, sent.reply().await)
                    }
                    Err(error) => break error,
                },
            };
            let trouble = match live.compared(reply, script, &call, limit.remaining()).await {
                // The first try has done it, whose answer was lost.
                Ok(Comparison::Other(Some(holder)))
                    if call.next.is_some_and(|next| next.value() == holder) =>
                {
                    return Ok(Comparison::Ours);
                }
                Ok(found) => return Ok(found),
                Err(trouble) => trouble,
            };
            let error = trouble.to_error(settings, script.name, self.holding.key());
            if matches!(trouble, Trouble::Dropped | Trouble::TimedOut) {
                self.is_unknown.set(true);
                origin = Some(Origin::of(&live));
            }
            client.link.leave_if_useless(&live, &error);
            let is_worth_a_retry = match trouble {
                Trouble::Refused(_) | Trouble::Unsent(_) => {
                    matches!(error.class(), Class::Later | Class::Reconnect) && limit.pause().await
                }
                Trouble::Dropped => !limit.is_over(),
                Trouble::TimedOut => false,
            };
            if !is_worth_a_retry {
                break error;
            }
            refusal = Some(error);
        };
        if let (Some(heir), Some(origin)) = (&self.heir, origin) {
            settlement::discard(client, Sent { origin: Some(origin), ..heir.sent.clone() });
        }
        Err(error)
    }

    fn script(&self) -> (&'static Script, ScriptCall<'_>) {
        let claim = &self.holding.claim;
        match &self.heir {
            None => (&RELEASE, ScriptCall { claim, ttl: None, next: None }),
            Some(Heir { sent, .. }) => {
                let (ttl, next) = (Some(sent.settings().terms.ttl), Some(&sent.claim));
                (&HAND_OVER, ScriptCall { claim, ttl, next })
            }
        }
    }
}

/// The head of the local queue, unless it is the turn of other processes.
fn heir_of(client: &Client, key: &str, hand_overs: u32) -> Option<Heir> {
    if hand_overs >= MOST_HAND_OVERS {
        return None;
    }
    let queue = client.queues.borrow().get(key).cloned()?;
    // One that wants replicas to have its lock takes it by itself.
    let head = queue.head().filter(|head| head.settings.min_replicas == 0)?;
    let sent = Sent { hand_overs: hand_overs + 1, ..Sent::now(key, Arc::clone(&head.settings)).ok()? };
    Some(Heir { queue, head, sent })
}

fn hand_over(client: &Rc<Client>, heir: Heir) {
    let Heir { queue, head, sent } = heir;
    let is_certain = Moment::now() < Lease::begin(sent.settings().terms, sent.when).certain_until();
    let waiter = is_certain.then(|| queue.leave(head.arrival)).flatten();
    match waiter {
        Some(waiter) => heartbeat::keep(client, sent, waiter.ticket),
        // It was cancelled meanwhile, or the answer took longer than its lease.
        None => settlement::discard(client, sent),
    }
}

/// The key is free, or somebody else's.
fn plainly_freed(client: &Client, key: &str, hand_overs: u32) {
    // Where the server tells of it, others can be quick enough to use their turn.
    let is_told = client.link.current().is_some_and(|live| live.tells_changes.get());
    if hand_overs >= MOST_HAND_OVERS && is_told {
        waiting::give_others_a_turn(client, key);
    }
    client.changed(key);
}

/// It is no longer kept. If its time ran out and nobody was told, this release is what tells.
fn tell_what_lapsed(holding: &Arc<Holding>) -> Outcome {
    let phase = holding.phase();
    if holding.has_lapsed() {
        holding.enter(Phase::Over);
    }
    match phase {
        Phase::Lapsed => Outcome::Lost(loss_of(holding, None)),
        Phase::LapsedAfterRelease => Outcome::Released,
        _ => Outcome::Nothing,
    }
}

fn loss_of(holding: &Arc<Holding>, holder: Option<String>) -> Loss {
    Loss { holding: Arc::clone(holding), holder }
}

/// Ends, without a word, what an environment that is gone has held: its keys lapse.
pub fn forget_environment(client: &Client, environment: u64) {
    for id in client.find(|one| one.caller.environment == environment) {
        if let Some(reservation) = client.take(id) {
            reservation.holding.enter(Phase::Over);
        }
    }
}
