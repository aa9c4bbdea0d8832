//! The one loop in which a call tries something at redis until it is answered, or its time is up: a connection, the time
//! that is left, leaving a server that is of no use, and the pause before the next try.

use std::rc::Rc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::connection::pipeline::Pipeline;
use crate::connection::reply::NoReply;
use crate::connection::supervisor::Patience;
use crate::lock::endpoint_state::EndpointState;
use crate::model::error::Error;
use crate::model::refusal::Class;
use crate::model::settings::Settings;
use crate::time::budget::Budget;

/// How often waiters try what is refused, or has nobody to answer it, all of one endpoint together: a server that is in
/// trouble, or is there for others, does not have all of them at it.
pub const MOST_TRIES_A_SECOND: u32 = 1_000;

/// For so long a waiter in trouble need not take turns with the others, as far as as many tries again allow: its trouble
/// may be another than theirs, and over soon. (That of many is a shard of a cluster that is gone, say.)
const NEW: Duration = Duration::from_secs(5);

/// The tries of one call. What it is that is tried is its owner's: [`Self::connection`] before each try,
/// [`Self::failed`] after one that was not answered as it should.
pub struct Attempts<'call> {
    state: &'call Rc<EndpointState>,
    settings: &'call Settings,
    budget: Budget,
    /// What is worth another try besides what passes by itself.
    outlasts_memory: bool,
    /// What the last try met: where there is no time for another, it says more than that there is none.
    last: Option<Error>,
    /// A waiter's pause before its next try. It has it while it asks for the connection, where it can leave.
    pause: Option<Duration>,
    in_trouble: Option<InTrouble<'call>>,
}

/// A waiter one of whose tries was not answered, until it leaves. They take turns.
struct InTrouble<'call> {
    state: &'call EndpointState,
    since: Instant,
}

impl<'call> InTrouble<'call> {
    fn begin(state: &'call EndpointState) -> Self {
        state.waiters_in_trouble.set(state.waiters_in_trouble.get() + 1);
        Self { state, since: Instant::now() }
    }
}

impl Drop for InTrouble<'_> {
    fn drop(&mut self) {
        self.state.waiters_in_trouble.set(self.state.waiters_in_trouble.get() - 1);
    }
}

impl<'call> Attempts<'call> {
    /// The tries of a call that has `limit` for all of them.
    #[must_use]
    pub fn new(state: &'call Rc<EndpointState>, settings: &'call Settings, budget: Budget) -> Self {
        Self { state, settings, budget, outlasts_memory: false, last: None, pause: None, in_trouble: None }
    }

    /// The same for a call that also waits until redis has memory for its key.
    #[must_use]
    pub fn outlasting_memory(self) -> Self {
        Self { outlasts_memory: true, ..self }
    }

    /// The connection for the next try.
    ///
    /// # Errors
    /// Why there is none within `patience`, or what the last try met if connecting has used up the time for another.
    pub async fn connection(&mut self, patience: Patience) -> Result<Rc<Pipeline>, Error> {
        if let Some(pause) = self.pause.take() {
            tokio::select! {
                () = self.state.trouble_passed() => {}
                () = sleep(pause) => {}
            }
        }
        let pipeline = self.state.supervisor.pipeline(patience, self.settings.connect_timeout).await?;
        self.check_time()?;
        Ok(pipeline)
    }

    /// # Errors
    /// What the last try met, if there is no time left for one that redis could answer.
    pub fn check_time(&mut self) -> Result<(), Error> {
        match self.last.take_if(|_| !self.budget.has_time()) {
            Some(last) => Err(last),
            None => Ok(()),
        }
    }

    /// How long the next command may take.
    pub fn remaining(&mut self) -> Duration {
        self.budget.remaining()
    }

    /// What the last try met, if there was one.
    #[must_use]
    pub fn last(&self) -> Option<&Error> {
        self.last.as_ref()
    }

    /// A try on `live` has met with `trouble`, which is `error` in words; what may have been lost with its reply is the
    /// owner's to deal with. Comes back when the next try is due.
    ///
    /// # Errors
    /// There is to be none: the answer of the call.
    pub async fn failed(
        &mut self,
        pipeline: &Rc<Pipeline>,
        no_reply: &NoReply,
        error: Error,
    ) -> Result<(), Error> {
        self.state.supervisor.leave_if_useless(pipeline, &error);
        let goes_on = match no_reply {
            // Another connection has to be made first, which takes its own time; unless it is one of several that broke.
            NoReply::Dropped | NoReply::Unsent(_) if pipeline.keeps_order() => !self.budget.is_over(),
            NoReply::Dropped => self.pause().await,
            NoReply::Refused(_) | NoReply::Unsent(_) => self.passes(&error) && self.pause().await,
            // It has had all the time that there was.
            NoReply::TimedOut | NoReply::Overdue => self.budget.is_endless(),
        };
        if goes_on {
            self.last = Some(error);
            return Ok(());
        }
        Err(match no_reply {
            NoReply::TimedOut | NoReply::Overdue => self.last.take().unwrap_or(error),
            _ => error,
        })
    }

    /// A try was answered, but not as it should be. Comes back when the next try is due.
    ///
    /// # Errors
    /// There is to be no other: the answer of the call.
    pub async fn unsuitable(&mut self, error: Error) -> Result<(), Error> {
        if !self.pause().await {
            return Err(error);
        }
        self.last = Some(error);
        Ok(())
    }

    /// A waiter's try was answered. What it met before that has passed for the others too, so they need not wait for their
    /// turns.
    pub fn answered(&self) {
        if self.in_trouble.is_some() {
            self.state.tell_trouble_passed();
        }
    }

    /// Pauses before another try. False, and at once, if there is no time for one.
    async fn pause(&mut self) -> bool {
        if !self.budget.is_endless() {
            return self.budget.pause().await;
        }
        let trouble = self.in_trouble.get_or_insert_with(|| InTrouble::begin(self.state));
        let delay = self.budget.next_delay();
        if trouble.since.elapsed() < NEW && self.state.may_try_soon() {
            self.pause = Some(delay);
            return true;
        }
        let turn = Duration::from_secs(1) / MOST_TRIES_A_SECOND * self.state.waiters_in_trouble.get();
        // Some soon, whatever their number, so that it is seen when the trouble passes.
        self.pause = Some(delay.max(turn.mul_f64(2.0 * fastrand::f64())));
        true
    }

    fn passes(&self, error: &Error) -> bool {
        match error.class() {
            Class::Later | Class::Reconnect => true,
            Class::OutOfMemory => self.outlasts_memory,
            _ => false,
        }
    }
}
