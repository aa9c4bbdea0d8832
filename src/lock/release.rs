//! Releases a reservation: by a compare-and-delete, or by a hand-over to the next waiter of this process.

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
use crate::runtime::task::spawn;
use crate::time::budget::Budget;
use crate::time::clock::Moment;

/// The result of releasing one reservation.
pub enum Outcome {
    /// Freed.
    Released,
    /// It was not ours any more, and nobody has told that yet.
    Lost(Loss),
    /// Redis could not be reached, or refused. The release may be retried.
    Failed(Arc<str>, Error),
}

/// The most consecutive in-process hand-overs of a key. Then it is deleted, so that waiters of other processes get a
/// turn.
const MAX_HAND_OVERS: u32 = 10;

/// The waiter of this process that gets the key, and the value for it.
struct NextHolder {
    queue: Rc<WaitQueue>,
    head: Head,
    sent: Sent,
}

/// Marks the release as failed when it is dropped before the release has ended, also by a panic. The reservation is not
/// renewed any more, because its caller is done with it: it lapses, unless it is released after all.
struct FailureGuard {
    state: Rc<EndpointState>,
    reservation: Arc<Reservation>,
}

impl Drop for FailureGuard {
    fn drop(&mut self) {
        self.reservation.release_failed();
        self.state.update(self.reservation.id, |_| {});
    }
}

/// A release in flight. It alone may end its reservation.
struct Release {
    state: Rc<EndpointState>,
    reservation: Arc<Reservation>,
    next_holder: Option<NextHolder>,
    hand_overs: u32,
    guard: FailureGuard,
}

/// A try that has a reply: the connection, when the call sent its first command, and the reply.
type Tried = (Rc<Pipeline>, Instant, Result<Value, NoReply>);

/// Releases one reservation for the call that asked for it ([`Reservation::ask_release`]), and passes the result to
/// `done`. If its lease ended after an earlier release had failed, it is released all the same: its key may still be
/// there. Nearly always one reply settles it, and then it is handled right where the reply is read. A task is made only
/// for the rest.
pub fn release(
    state: &Rc<EndpointState>,
    reservation: Arc<Reservation>,
    done: impl FnOnce(Outcome) + 'static,
) {
    let mut hand_overs = 0;
    // Takes it off the schedule: nothing is due while the release is pending.
    state.update(reservation.id, |held| hand_overs = held.hand_overs);
    let next_holder = next_holder_for(state, reservation.key(), hand_overs);
    let guard = FailureGuard { state: Rc::clone(state), reservation: Arc::clone(&reservation) };
    let release = Release { state: Rc::clone(state), reservation, next_holder, hand_overs, guard };
    let Some(pipeline) = release.state.supervisor.current() else {
        spawn(async move { done(release.finish(None).await) });
        return;
    };
    let (script, call) = release.script();
    let command = script.by_hash(&call);
    let (limit, began) = (release.reservation.settings().command_timeout, pipeline.turn());
    Rc::clone(&pipeline).send_then(Lane::Release, command, limit, move |reply| {
        match reply.as_ref().ok().and_then(comparison_of) {
            Some(Comparison::Ours) => done(release.freed(Comparison::Ours)),
            _ => {
                spawn(async move {
                    done(release.finish(Some((pipeline, began, reply))).await);
                });
            }
        }
    });
}

impl Release {
    /// The rest of a release that one reply did not settle.
    async fn finish(self, tried: Option<Tried>) -> Outcome {
        match self.compare_and_free(tried).await {
            Ok(found) => self.freed(found),
            Err(error) => Outcome::Failed(self.reservation.key().into(), error),
        }
    }

    /// Ends the reservation after redis has answered.
    fn freed(self, found: Comparison) -> Outcome {
        let Self { state, reservation, next_holder, hand_overs, guard } = self;
        fail_point!("freed", reservation.key());
        state.take(reservation.id);
        reservation.release_ended();
        drop(guard);
        match (&found, next_holder) {
            (Comparison::Ours, Some(next_holder)) => hand_over(&state, next_holder),
            (_, _) => freed_for_all(&state, reservation.key(), hand_overs),
        }
        match found {
            Comparison::Ours | Comparison::Freed => Outcome::Released,
            // An earlier release, whose reply was lost, has deleted it.
            _ if reservation.is_release_unknown() => Outcome::Released,
            Comparison::Gone => Outcome::Lost(Loss { reservation, holder: None }),
            Comparison::Other(holder) => Outcome::Lost(Loss { reservation, holder }),
        }
    }

    /// Deletes the key, or sets it for the next holder, if it is ours. If the release fails, the next holder's value is
    /// discarded.
    async fn compare_and_free(&self, tried: Option<Tried>) -> Result<Comparison, Error> {
        // The connections on which the next holder's value may have been set without our knowing.
        let mut unanswered = Vec::new();
        let result = self.repeat(tried, &mut unanswered).await;
        if let (Err(_), Some(next_holder)) = (&result, &self.next_holder) {
            for pipeline in unanswered {
                undo::discard(&self.state, next_holder.sent.clone().unanswered_on(&pipeline));
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
        match &self.next_holder {
            None => (&RELEASE, ScriptCall { claim, ttl: None, next: None }),
            Some(NextHolder { sent, .. }) => {
                let (ttl, next) = (Some(sent.settings().terms.ttl), Some(&sent.claim));
                (&HAND_OVER, ScriptCall { claim, ttl, next })
            }
        }
    }
}

/// The first waiter of the local queue; `None` when it is the turn of other processes.
fn next_holder_for(state: &EndpointState, key: &str, hand_overs: u32) -> Option<NextHolder> {
    if hand_overs >= MAX_HAND_OVERS {
        return None;
    }
    let queue = state.queues.borrow().get(key).cloned()?;
    // A waiter that wants replicas takes its lock itself.
    let head = queue.head().filter(|head| head.settings.min_replicas == 0)?;
    let sent = Sent { hand_overs: hand_overs + 1, ..Sent::now(key, Arc::clone(&head.settings)).ok()? };
    Some(NextHolder { queue, head, sent })
}

fn hand_over(state: &Rc<EndpointState>, next_holder: NextHolder) {
    let NextHolder { queue, head, sent } = next_holder;
    let is_certain = Moment::now() < Lease::begin(sent.settings().terms, sent.when).certain_until();
    let waiter = is_certain.then(|| queue.leave(head.arrival)).flatten();
    match waiter {
        Some(waiter) => renew::keep(state, sent, waiter.ticket),
        // It was cancelled meanwhile, or the reply came after the end of the lease.
        None => undo::discard(state, sent),
    }
}

/// The key was deleted, or somebody else has it.
fn freed_for_all(state: &EndpointState, key: &str, hand_overs: u32) {
    // Without reports of changes, other processes are too slow to use their turn.
    let is_told = state.supervisor.current().is_some_and(|pipeline| pipeline.tells_changes.get());
    if hand_overs >= MAX_HAND_OVERS && is_told {
        wait::give_others_a_turn(state, key);
    }
    state.changed(key);
}

/// Ends all reservations of an environment that has ended. Nothing is reported; their keys lapse.
pub fn forget_environment(state: &EndpointState, environment: u64) {
    for (id, _) in state.find(|one| one.caller.environment == environment) {
        if let Some(held) = state.take(id) {
            held.reservation.release_ended();
        }
    }
}
