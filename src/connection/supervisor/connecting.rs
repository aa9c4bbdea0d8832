//! Makes the connection: one task tries while somebody needs it. Everybody else waits to be notified, until their
//! patience is over.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::{State, Supervisor};
use crate::connection::open;
use crate::connection::pipeline::Pipeline;
use crate::model::error::Error;
use crate::model::refusal::Class;
use crate::runtime::task::spawn;

/// How long a call retries when connections are refused or the host is not found: as in 0.4.0.
const REFUSED_BUDGET: Duration = Duration::from_millis(500);

/// How long a call waits for the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// Until the call's time is over, or the failure is one that no retry mends.
    Call,
    /// For ever, unless redis refuses the credentials.
    Outage,
}

/// Somebody needs the connection, until this is dropped.
struct Demand<'supervisor> {
    supervisor: &'supervisor Supervisor,
    connect_timeout: Duration,
}

impl Drop for Demand<'_> {
    fn drop(&mut self) {
        let mut connect_timeouts = self.supervisor.connect_timeouts.borrow_mut();
        if let Some(count) = connect_timeouts.get_mut(&self.connect_timeout) {
            *count -= 1;
            if *count == 0 {
                connect_timeouts.remove(&self.connect_timeout);
            }
        }
    }
}

impl Supervisor {
    /// The connection; makes it if necessary. `connect_timeout` limits one attempt, and the whole wait of a call while
    /// an attempt is pending.
    ///
    /// # Errors
    /// Why there is no connection, once `patience` is over.
    pub async fn pipeline(
        self: &Rc<Self>,
        patience: Patience,
        connect_timeout: Duration,
    ) -> Result<Rc<Pipeline>, Error> {
        match self.current() {
            Some(pipeline) => Ok(pipeline),
            // Boxed, so that the many calls that find the connection up are small.
            None => Box::pin(self.bring_up(patience, connect_timeout)).await,
        }
    }

    async fn bring_up(
        self: &Rc<Self>,
        patience: Patience,
        connect_timeout: Duration,
    ) -> Result<Rc<Pipeline>, Error> {
        let asked = Instant::now();
        let before = self.attempts.get();
        let mut seen = before;
        let _demand = self.demand(connect_timeout);
        loop {
            let (settled, attempted) = (self.settled.notified(), self.attempted.notified());
            if let Some(pipeline) = self.current() {
                return Ok(pipeline);
            }
            if self.attempts.get() != seen {
                seen = self.attempts.get();
                if let Some(failure) = self.failure()
                    && is_final(&failure, patience, asked.elapsed(), connect_timeout)
                {
                    return Err(failure);
                }
            }
            if patience != Patience::Call {
                settled.await;
            } else if timeout_at(asked + connect_timeout, attempted).await.is_err() {
                // The failure of an attempt says more than that the next one is pending.
                let failure = self.failure().filter(|_| self.attempts.get() != before);
                return Err(failure.unwrap_or_else(|| open::not_within(&self.endpoint, connect_timeout)));
            }
        }
    }

    fn demand(self: &Rc<Self>, connect_timeout: Duration) -> Demand<'_> {
        *self.connect_timeouts.borrow_mut().entry(connect_timeout).or_default() += 1;
        self.connect();
        Demand { supervisor: self, connect_timeout }
    }

    /// How long an attempt may take; `None` if nobody needs the connection. It is the longest timeout of those who
    /// wait: the connection may take that long, and those with a shorter one leave by themselves. What is held may
    /// limit it further.
    pub(super) fn attempt_limit(&self) -> Option<Duration> {
        let waited_for = self.connect_timeouts.borrow().keys().next_back().copied();
        let needed = self.need.borrow().as_ref().and_then(|need| need(self.timeouts.get()));
        match (waited_for, needed) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        }
    }

    /// Starts the task that connects, unless it runs.
    pub(super) fn connect(self: &Rc<Self>) {
        let mut connector = self.connector.borrow_mut();
        if connector.as_ref().is_none_or(JoinHandle::is_finished) {
            let supervisor = Rc::clone(self);
            *connector = Some(spawn(async move { supervisor.connect_while_wanted().await }));
        }
    }

    async fn connect_while_wanted(self: Rc<Self>) {
        while let Some(retry_at) = self.retry_at() {
            sleep_until(retry_at).await;
            let Some(limit) = self.attempt_limit() else { return };
            let endpoint = Arc::clone(&self.endpoint);
            let opening = spawn(async move {
                fail_point!("connect", endpoint.to_string());
                open::open(&endpoint, limit).await
            });
            // A panic costs one attempt. It must not end this task: those who wait rely on it.
            match opening.await {
                Ok(Ok(opened)) => {
                    if catch_unwind(AssertUnwindSafe(|| self.came_up(opened))).is_err() {
                        self.failed(Error::Internal("a panic when the connection came up".into()));
                    }
                }
                Ok(Err(error)) => self.failed(error),
                Err(panic) => self.failed(Error::Internal(panic.to_string())),
            }
        }
    }

    /// When the next attempt may begin; `None` if the connection is up.
    fn retry_at(&self) -> Option<Instant> {
        match &*self.state.borrow() {
            State::Down { retry_at } => Some(*retry_at),
            State::Up(_) => None,
        }
    }
}

/// True if an attempt has failed because its time was over.
pub(super) fn is_timeout(failure: &Error) -> bool {
    matches!(failure, Error::Connection { reason: "ETIMEDOUT", .. })
}

/// Whether a failed attempt ends the wait of a call that has waited for `waited`.
fn is_final(failure: &Error, patience: Patience, waited: Duration, connect_timeout: Duration) -> bool {
    match (patience, failure) {
        // A panic is no failure of redis: the next attempt may succeed.
        (Patience::Outage, Error::Internal(_)) => false,
        (_, failure) if matches!(failure.class(), Class::Denied | Class::Final) => true,
        (Patience::Outage, _) => false,
        // The attempt may have begun before this call, with a timeout of another.
        (Patience::Call, failure) if is_timeout(failure) => waited >= connect_timeout,
        (Patience::Call, _) => waited >= REFUSED_BUDGET,
    }
}
