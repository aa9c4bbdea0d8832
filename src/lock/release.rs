//! Giving back what is held: one compare-and-delete each, or a hand-over to the next waiter of this process, and what
//! each of the answers means.

use std::rc::Rc;
use std::sync::Arc;

use redis::Value;
use tokio::time::Instant;

use crate::connection::pipeline::Pipeline;
use crate::connection::reply::NoReply;
use crate::connection::send_queue::Lane;
use crate::connection::supervisor::Patience;
use crate::lock::attempts::Attempts;
use crate::lock::endpoint_state::EndpointState;
use crate::lock::renew;
use crate::lock::sent::Sent;
use crate::lock::undo;
use crate::lock::wait;
use crate::lock::wait_queue::{Head, WaitQueue};
use crate::model::answer::Loss;
use crate::model::error::Error;
use crate::model::lease::Lease;
use crate::model::reservation::Reservation;
use crate::protocol::command::{Comparison, HAND_OVER, RELEASE, Script, ScriptCall, comparison_of};
use crate::time::budget::Budget;
use crate::time::clock::Moment;

/// What became of one reservation that was to be released.
pub enum Outcome {
    /// Freed.
    Released,
    /// It was not ours any more, and nobody has told so yet.
    Lost(Loss),
    /// Redis could not be asked, or refused; it may be released again.
    Failed(Arc<str>, Error),
}

/// How often in a row a key goes from holder to holder inside this process before it is plainly freed, so that waiters
/// of other processes get a turn.
const MOST_HAND_OVERS: u32 = 10;

/// The waiter of this process that a key is handed to, and what it is set to for him.
struct Heir {
    queue: Rc<WaitQueue>,
    head: Head,
    sent: Sent,
}

/// A release fails unless it has ended before this is dropped; by a panic, too. The reservation is not renewed again then,
/// for its caller is done with it: it lapses, unless it is released after all.
struct Asked {
    state: Rc<EndpointState>,
    reservation: Arc<Reservation>,
}

impl Drop for Asked {
    fn drop(&mut self) {
        self.reservation.release_failed();
        self.state.update(self.reservation.id, |_| {});
    }
}

/// A release that is under way: the one that may end its reservation.
struct Release {
    state: Rc<EndpointState>,
    reservation: Arc<Reservation>,
    heir: Option<Heir>,
    hand_overs: u32,
    asked: Asked,
}

/// A command whose reply is there, and when it was sent.
type Tried = (Rc<Pipeline>, Instant, Result<Value, NoReply>);

/// Releases one reservation, for the one who asked for it ([`Reservation::ask_release`]); `done` is told what became of it.
/// One whose time ran out after a release that had failed is released like any other: its key may still be there. What
/// goes well, as nearly all does, is dealt with right where the reply comes in; a task is made only for what takes more
/// than one command.
pub fn release(
    state: &Rc<EndpointState>,
    reservation: Arc<Reservation>,
    done: impl FnOnce(Outcome) + 'static,
) {
    let mut hand_overs = 0;
    // It is planned anew: nothing is to be done with it before this has an answer.
    state.update(reservation.id, |held| hand_overs = held.hand_overs);
    let heir = heir_of(state, reservation.key(), hand_overs);
    let asked = Asked { state: Rc::clone(state), reservation: Arc::clone(&reservation) };
    let release = Release { state: Rc::clone(state), reservation, heir, hand_overs, asked };
    let Some(pipeline) = release.state.supervisor.current() else {
        tokio::task::spawn_local(async move { done(release.go_on(None).await) });
        return;
    };
    let (script, call) = release.script();
    let command = script.by_hash(&call);
    let (limit, began) = (release.reservation.settings().command_timeout, pipeline.turn());
    Rc::clone(&pipeline).send_then(Lane::Release, command, limit, move |reply| {
        match reply.as_ref().ok().and_then(comparison_of) {
            Some(Comparison::Ours) => done(release.freed(Comparison::Ours)),
            _ => {
                tokio::task::spawn_local(
                    async move { done(release.go_on(Some((pipeline, began, reply))).await) },
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
            Err(error) => Outcome::Failed(self.reservation.key().into(), error),
        }
    }

    /// Redis has answered.
    fn freed(self, found: Comparison) -> Outcome {
        let Self { state, reservation, heir, hand_overs, asked } = self;
        fail_point!("freed", reservation.key());
        state.take(reservation.id);
        reservation.release_ended();
        drop(asked);
        match (&found, heir) {
            (Comparison::Ours, Some(heir)) => hand_over(&state, heir),
            (_, _) => plainly_freed(&state, reservation.key(), hand_overs),
        }
        match found {
            Comparison::Ours | Comparison::Freed => Outcome::Released,
            // An earlier release of it, whose answer was lost, has done it.
            _ if reservation.is_release_unknown() => Outcome::Released,
            Comparison::Gone => Outcome::Lost(Loss { reservation, holder: None }),
            Comparison::Other(holder) => Outcome::Lost(Loss { reservation, holder }),
        }
    }

    /// Deletes the key, or sets it for the heir, if it is ours. What was sent for an heir who is not to have it after all
    /// is discarded.
    async fn compare_and_free(&self, tried: Option<Tried>) -> Result<Comparison, Error> {
        // The connections on which the heir's value may have been set unseen.
        let mut unanswered = Vec::new();
        let result = self.repeat(tried, &mut unanswered).await;
        if let (Err(_), Some(heir)) = (&result, &self.heir) {
            for pipeline in unanswered {
                undo::discard(&self.state, heir.sent.clone().unanswered_on(&pipeline));
            }
        }
        result
    }

    async fn repeat(
        &self,
        mut tried: Option<Tried>,
        unanswered: &mut Vec<Rc<Pipeline>>,
    ) -> Result<Comparison, Error> {
        let (state, settings) = (&self.state, self.reservation.settings());
        let (script, call) = self.script();
        let budget = match &tried {
            Some((_, began, _)) => Budget::since(*began, settings.command_timeout),
            None => Budget::new(settings.command_timeout),
        };
        let mut attempts = Attempts::new(state, settings, budget);
        loop {
            let (pipeline, reply) = if let Some((pipeline, _, reply)) = tried.take() {
                (pipeline, reply)
            } else {
                let pipeline = attempts.connection(Patience::Call).await?;
                let limit = attempts.remaining();
                let reply = pipeline.send(Lane::Release, script.by_hash(&call), limit).reply().await;
                (pipeline, reply)
            };
            let no_reply = match pipeline.compared(reply, script, &call, attempts.remaining()).await {
                Ok(found) => return Ok(found),
                Err(no_reply) => no_reply,
            };
            if matches!(no_reply, NoReply::Dropped | NoReply::TimedOut) {
                self.reservation.set_release_unknown();
                unanswered.push(Rc::clone(&pipeline));
            }
            let error = no_reply.to_error(settings, script.name, self.reservation.key());
            attempts.failed(&pipeline, &no_reply, error).await?;
        }
    }

    fn script(&self) -> (&'static Script, ScriptCall<'_>) {
        let claim = &self.reservation.claim;
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
fn heir_of(state: &EndpointState, key: &str, hand_overs: u32) -> Option<Heir> {
    if hand_overs >= MOST_HAND_OVERS {
        return None;
    }
    let queue = state.queues.borrow().get(key).cloned()?;
    // One that wants replicas to have its lock takes it by itself.
    let head = queue.head().filter(|head| head.settings.min_replicas == 0)?;
    let sent = Sent { hand_overs: hand_overs + 1, ..Sent::now(key, Arc::clone(&head.settings)).ok()? };
    Some(Heir { queue, head, sent })
}

fn hand_over(state: &Rc<EndpointState>, heir: Heir) {
    let Heir { queue, head, sent } = heir;
    let is_certain = Moment::now() < Lease::begin(sent.settings().terms, sent.when).certain_until();
    let waiter = is_certain.then(|| queue.leave(head.arrival)).flatten();
    match waiter {
        Some(waiter) => renew::keep(state, sent, waiter.ticket),
        // It was cancelled meanwhile, or the answer took longer than its lease.
        None => undo::discard(state, sent),
    }
}

/// The key is free, or somebody else's.
fn plainly_freed(state: &EndpointState, key: &str, hand_overs: u32) {
    // Where the server tells of it, others can be quick enough to use their turn.
    let is_told = state.supervisor.current().is_some_and(|pipeline| pipeline.tells_changes.get());
    if hand_overs >= MOST_HAND_OVERS && is_told {
        wait::give_others_a_turn(state, key);
    }
    state.changed(key);
}

/// Ends, without a word, what an environment that is gone has held: its keys lapse.
pub fn forget_environment(state: &EndpointState, environment: u64) {
    for (id, _) in state.find(|one| one.caller.environment == environment) {
        if let Some(held) = state.take(id) {
            held.reservation.release_ended();
        }
    }
}
