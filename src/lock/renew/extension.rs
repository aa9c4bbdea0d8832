//! One extend that was sent, and what its reply means for the lease.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use redis::Value;

use super::{failed, try_the_doubtful};
use crate::connection::pipeline::Pipeline;
use crate::connection::reply::NoReply;
use crate::lock::endpoint_state::{EndpointState, Held};
use crate::lock::loss::lose;
use crate::lock::watch;
use crate::model::answer::{Event, Loss};
use crate::model::error::Error;
use crate::model::lease::PendingExtend;
use crate::model::reservation::{Phase, Reservation};
use crate::model::settings::LogLevel;
use crate::protocol::command::{Comparison, EXTEND, ScriptCall};
use crate::runtime::task::spawn;
use crate::time::clock::Moment;

/// Extends that are sent together.
pub struct Round {
    state: Rc<EndpointState>,
    pipeline: Rc<Pipeline>,
    /// The moment before they are sent.
    pub sent: Moment,
    /// Whether each success is reported as an event.
    is_told: bool,
}

impl Round {
    /// A round that is sent now.
    pub fn begin(state: &Rc<EndpointState>, pipeline: &Rc<Pipeline>, is_told: bool) -> Rc<Self> {
        let (state, pipeline) = (Rc::clone(state), Rc::clone(pipeline));
        Rc::new(Self { state, pipeline, sent: Moment::now(), is_told })
    }
}

/// One extend that was sent.
pub struct Extension {
    round: Rc<Round>,
    reservation: Arc<Reservation>,
    ttl: Duration,
    asking: PendingExtend,
    has_succeeded: Cell<bool>,
}

impl Extension {
    /// An extend of this reservation, to be sent now.
    pub fn begin(round: &Rc<Round>, held: &mut Held, ttl: Duration) -> Self {
        let asking = held.lease.ask(ttl, round.sent);
        watch::renewing(held);
        let (round, reservation) = (Rc::clone(round), Arc::clone(&held.reservation));
        Self { round, reservation, ttl, asking, has_succeeded: Cell::new(false) }
    }

    pub fn call(&self) -> ScriptCall<'_> {
        ScriptCall { claim: &self.reservation.claim, ttl: Some(self.ttl), next: None }
    }

    /// Handles the reply. `Ok(None)`: renewed; `Ok(Some)`: lost.
    pub async fn finish(
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

    /// The server answers, whether by a success or by a loss: the others can be retried.
    fn answered(&self) {
        if self.round.state.trust(self.reservation.id) {
            try_the_doubtful(&self.round.state, &self.round.pipeline);
        }
    }

    /// Redis has renewed it. Ignored if a release was asked for meanwhile: then it is not renewed again.
    pub fn renewed(&self) {
        fail_point!("renewed", self.reservation.key());
        self.has_succeeded.set(true);
        let Round { state, sent, is_told, .. } = &*self.round;
        state.update(self.reservation.id, |held| {
            if held.reservation.phase() != Phase::Held {
                return;
            }
            held.has_complained = false;
            // Somebody had shortened its key, which has its old end again.
            if *is_told && held.never_renews() {
                return;
            }
            // A heartbeat's renewal has the ttl from when it was sent. Only a caller's renewal changes the ttl.
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

    /// Handles the reply to the heartbeat's renewal.
    pub async fn settle(self, reply: Result<Value, NoReply>) {
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
    /// A renewal that panicked has failed like any other: it is retried.
    fn drop(&mut self) {
        let (state, id) = (Rc::clone(&self.round.state), self.reservation.id);
        watch::renewed(&state, id, self.has_succeeded.get());
        if std::thread::panicking() {
            let error = Error::Internal("a renewal ended without an answer".into());
            spawn(async move { failed(&state, id, error) });
        }
    }
}
