//! The retry loop of every call: gets the connection, watches the time, drops a useless server, and backs off before
//! the next try.

use std::rc::Rc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

use crate::connection::open::not_within;
use crate::connection::pipeline::Pipeline;
use crate::connection::reply::NoReply;
use crate::connection::supervisor::Patience;
use crate::lock::endpoint_state::EndpointState;
use crate::model::error::Error;
use crate::model::refusal::Class;
use crate::model::settings::Settings;
use crate::time::budget::Budget;

/// The most retries a second of all waiters of one endpoint together, while redis refuses them or does not answer. A
/// server that is in trouble, or busy with others, is not flooded.
pub const MAX_TRIES_A_SECOND: u32 = 1_000;

/// For this long a waiter may retry soon instead of taking turns with the others, as far as [`MAX_TRIES_A_SECOND`]
/// allows: its own failure may be over long before theirs. (Many waiters may be retrying because a shard of a cluster
/// is gone, say.)
const SOON_WINDOW: Duration = Duration::from_secs(5);

/// The tries of one call. What is tried is up to the call: it asks for [`Self::connection`] before each try, and calls
/// [`Self::failed`] after a try without a usable reply.
pub struct Attempts<'call> {
    state: &'call Rc<EndpointState>,
    settings: &'call Settings,
    budget: Budget,
    /// Retries also when redis is out of memory.
    outlasts_memory: bool,
    /// The error of the last try. If time runs out, the call fails with it: it explains more than a timeout.
    last: Option<Error>,
    /// A waiter's pause before its next try. It is spent while asking for the connection, when the waiter can still
    /// leave.
    pause: Option<Duration>,
    backing_off: Option<BackingOff<'call>>,
}

/// A waiter that had a try without a usable reply, until it leaves. Such waiters take turns.
struct BackingOff<'call> {
    state: &'call EndpointState,
    since: Instant,
}

impl<'call> BackingOff<'call> {
    fn begin(state: &'call EndpointState) -> Self {
        state.waiters_backing_off.set(state.waiters_backing_off.get() + 1);
        Self { state, since: Instant::now() }
    }
}

impl Drop for BackingOff<'_> {
    fn drop(&mut self) {
        self.state.waiters_backing_off.set(self.state.waiters_backing_off.get() - 1);
    }
}

impl<'call> Attempts<'call> {
    /// The tries of a call within this budget.
    #[must_use]
    pub fn new(state: &'call Rc<EndpointState>, settings: &'call Settings, budget: Budget) -> Self {
        Self { state, settings, budget, outlasts_memory: false, last: None, pause: None, backing_off: None }
    }

    /// Also retries when redis is out of memory.
    #[must_use]
    pub fn outlasting_memory(self) -> Self {
        Self { outlasts_memory: true, ..self }
    }

    /// The connection for the next try, after the pause before it. Once the first command was sent, the wait for another
    /// connection ends with the call's time: a try after that would be too late.
    ///
    /// # Errors
    /// Why there is no connection within `patience`; or the error of the last try, if connecting has used up the time.
    pub async fn connection(&mut self, patience: Patience) -> Result<Rc<Pipeline>, Error> {
        if let Some(pause) = self.pause.take() {
            tokio::select! {
                biased;
                () = self.state.recovered() => {}
                () = sleep(pause) => {}
            }
        }
        let connecting = self.state.supervisor.pipeline(patience, self.settings.connect_timeout);
        let connected = match self.budget.end() {
            None => connecting.await,
            // Boxed, so that the many calls that wait for their first connection are small.
            Some(end) => Box::pin(timeout_at(end, connecting)).await.unwrap_or_else(|_| {
                let endpoint = &self.state.supervisor.endpoint;
                Err(self.last.take().unwrap_or_else(|| not_within(endpoint, self.settings.connect_timeout)))
            }),
        };
        let pipeline = connected?;
        self.check_time()?;
        Ok(pipeline)
    }

    /// Checks that there is time for another try.
    ///
    /// # Errors
    /// The error of the last try, if redis could not answer another in time.
    pub fn check_time(&mut self) -> Result<(), Error> {
        match self.last.take_if(|_| !self.budget.has_time()) {
            Some(last) => Err(last),
            None => Ok(()),
        }
    }

    /// The limit for the next command.
    pub fn remaining(&mut self) -> Duration {
        self.budget.remaining()
    }

    /// The error of the last try, if there was one.
    #[must_use]
    pub fn last(&self) -> Option<&Error> {
        self.last.as_ref()
    }

    /// A try on `pipeline` has failed with `error`. Returns when the next try is due. If the command may still run, the
    /// caller must handle that.
    ///
    /// # Errors
    /// The error of the call: there is no time for a retry, or no point in one.
    pub async fn failed(
        &mut self,
        pipeline: &Rc<Pipeline>,
        no_reply: &NoReply,
        error: Error,
    ) -> Result<(), Error> {
        self.state.supervisor.leave_if_useless(pipeline, &error);
        let goes_on = match no_reply {
            // The reconnect takes its own time. But a cluster has several connections, so there is none to wait for.
            NoReply::Dropped | NoReply::Unsent(_) if pipeline.keeps_order() => !self.budget.is_over(),
            NoReply::Dropped => self.pause().await,
            NoReply::Refused(_) | NoReply::Unsent(_) => self.passes(&error) && self.pause().await,
            // The command has used the whole time of the call.
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

    /// A try was answered, but the result does not do. Returns when the next try is due.
    ///
    /// # Errors
    /// The error of the call: there is no time for a retry.
    pub async fn unsuitable(&mut self, error: Error) -> Result<(), Error> {
        if !self.pause().await {
            return Err(error);
        }
        self.last = Some(error);
        Ok(())
    }

    /// A waiter's try was answered. If its earlier tries failed, the cause is over for the others too, so they need not
    /// wait for their turns.
    pub fn answered(&self) {
        if self.backing_off.is_some() {
            self.state.notify_recovered();
        }
    }

    /// Pauses before another try. Returns false at once if there is no time for one.
    async fn pause(&mut self) -> bool {
        if !self.budget.is_endless() {
            return self.budget.pause().await;
        }
        let backing_off = self.backing_off.get_or_insert_with(|| BackingOff::begin(self.state));
        let delay = self.budget.next_delay();
        if backing_off.since.elapsed() < SOON_WINDOW && self.state.may_try_soon() {
            self.pause = Some(delay);
            return true;
        }
        let turn = Duration::from_secs(1) / MAX_TRIES_A_SECOND * self.state.waiters_backing_off.get();
        // Random, so that some waiters retry soon however many there are, and notice when the cause is over.
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
