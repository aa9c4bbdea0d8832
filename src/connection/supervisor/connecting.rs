//! Making the connection: one task tries for as long as somebody wants it, and everybody who waits is told what concerns
//! them, for as long as they are patient.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{JoinHandle, spawn_local};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::{State, Supervisor};
use crate::connection::open;
use crate::connection::pipeline::Pipeline;
use crate::model::error::Error;
use crate::model::refusal::Class;

/// How long a refused or unresolvable connection is retried for a call: the budget that 0.4.0 had.
const REFUSED_BUDGET: Duration = Duration::from_millis(500);

/// For how long somebody waits for a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// Until a call's budget is used up, or the failure is one that waiting does not mend.
    Call,
    /// For ever, unless the credentials are refused.
    Outage,
}

/// Somebody wants the connection, until this is dropped.
struct Want<'supervisor> {
    supervisor: &'supervisor Supervisor,
    connect_timeout: Duration,
}

impl Drop for Want<'_> {
    fn drop(&mut self) {
        let mut wants = self.supervisor.wants.borrow_mut();
        if let Some(count) = wants.get_mut(&self.connect_timeout) {
            *count -= 1;
            if *count == 0 {
                wants.remove(&self.connect_timeout);
            }
        }
    }
}

impl Supervisor {
    /// The connection, made if need be. `connect_timeout` limits one attempt, and a call's whole wait for an attempt
    /// that is merely pending.
    ///
    /// # Errors
    /// Why there is none, once `patience` is over.
    pub async fn pipeline(
        self: &Rc<Self>,
        patience: Patience,
        connect_timeout: Duration,
    ) -> Result<Rc<Pipeline>, Error> {
        match self.current() {
            Some(pipeline) => Ok(pipeline),
            // In a box of its own, so that the many calls which find the connection up carry no room for this.
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
        let _want = self.want(connect_timeout);
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
                // What an attempt of this call has met says more than that the next one is pending.
                let failure = self.failure().filter(|_| self.attempts.get() != before);
                return Err(failure.unwrap_or_else(|| open::not_within(&self.endpoint, connect_timeout)));
            }
        }
    }

    fn want(self: &Rc<Self>, connect_timeout: Duration) -> Want<'_> {
        *self.wants.borrow_mut().entry(connect_timeout).or_default() += 1;
        self.connect();
        Want { supervisor: self, connect_timeout }
    }

    /// How long an attempt may take, while somebody wants the connection: as long as the most patient of them gives it,
    /// whose connection it may be that takes so long. Those who do not leave by themselves.
    pub(super) fn wanted(&self) -> Option<Duration> {
        let waited_for = self.wants.borrow().keys().next_back().copied();
        let needed = self.need.borrow().as_ref().and_then(|need| need());
        match (waited_for, needed) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        }
    }

    /// Sees to it that somebody connects.
    pub(super) fn connect(self: &Rc<Self>) {
        let mut connector = self.connector.borrow_mut();
        if connector.as_ref().is_none_or(JoinHandle::is_finished) {
            let supervisor = Rc::clone(self);
            *connector = Some(spawn_local(async move { supervisor.connect_while_wanted().await }));
        }
    }

    async fn connect_while_wanted(self: Rc<Self>) {
        while let Some(retry_at) = self.retry_at() {
            sleep_until(retry_at).await;
            let Some(limit) = self.wanted() else { return };
            let endpoint = Arc::clone(&self.endpoint);
            let opening = spawn_local(async move {
                fail_point!("connect", endpoint.to_string());
                open::open(&endpoint, limit).await
            });
            // A panic is that of one attempt. This task must not end by one: whoever wants the connection sees it run.
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

    /// When the next attempt may begin, while it is down.
    fn retry_at(&self) -> Option<Instant> {
        match &*self.state.borrow() {
            State::Down { retry_at } => Some(*retry_at),
            State::Up(_) => None,
        }
    }
}

/// Whether a failed attempt ends the wait of somebody who has waited for `waited`.
fn is_final(failure: &Error, patience: Patience, waited: Duration, connect_timeout: Duration) -> bool {
    match (patience, failure) {
        // A panic is none of redis's: the next attempt may well succeed.
        (Patience::Outage, Error::Internal(_)) => false,
        (_, failure) if matches!(failure.class(), Class::Denied | Class::Final) => true,
        (Patience::Outage, _) => false,
        // The attempt may have been somebody else's, and older.
        (Patience::Call, Error::Connection { reason: "ETIMEDOUT", .. }) => waited >= connect_timeout,
        (Patience::Call, _) => waited >= REFUSED_BUDGET,
    }
}
