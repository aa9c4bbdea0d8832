//! The reply to one command: who waits for it, how it gets there, and why there may be none.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use redis::{ServerError, Value};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::model::error::Error;
use crate::model::settings::Settings;

/// Why a command has no reply that can be used.
#[derive(Clone, Debug)]
pub enum NoReply {
    /// An error reply.
    Refused(ServerError),
    /// The connection broke; whether the command ran is unknown.
    Dropped,
    /// It was not sent and will not run: the cluster's node cannot be used, for this reason; or (`None`) the connection
    /// was gone.
    Unsent(Option<Box<Error>>),
    /// It timed out. The command may still run.
    TimedOut,
    /// It timed out in the queue. It was not sent and will not run.
    Overdue,
}

impl NoReply {
    /// The error of this command.
    #[must_use]
    pub fn to_error(&self, settings: &Settings, command: &'static str, key: &str) -> Error {
        let (endpoint, key) = (Arc::clone(&settings.endpoint), key.to_owned());
        match self {
            Self::Refused(error) => Error::from_reply(&endpoint, command, &key, error),
            Self::Dropped => Error::Dropped { endpoint, command, key },
            Self::Unsent(failure) => match failure.as_deref() {
                None => Error::Connection {
                    endpoint,
                    detail: format!("the connection was lost before {command} of {key} was sent"),
                    reason: "ECONNRESET",
                },
                Some(Error::Connection { detail, reason, .. }) => {
                    Error::Connection { endpoint, detail: format!("{command} of {key}: {detail}"), reason }
                }
                // The node refused to let us in.
                Some(refusal) => refusal.clone(),
            },
            Self::TimedOut | Self::Overdue => {
                // A call has one limit for all of its commands.
                let after_ms = settings.command_timeout.as_millis();
                Error::Timeout { endpoint, command, key, after_ms, consequence: "" }
            }
        }
    }
}

/// Where the reply to one command goes.
pub enum ReplyTo {
    /// To a task that waits for it.
    Task(oneshot::Sender<Result<Value, NoReply>>),
    /// To a callback. Nearly all replies need no task, so none is made or woken.
    Callback(Box<dyn FnOnce(Result<Value, NoReply>)>),
}

/// A command without a reply so far.
pub struct AwaitedReply {
    /// Where the reply goes.
    pub reply_to: ReplyTo,
    /// When it times out.
    pub end: Instant,
    /// Its limit.
    pub limit: Duration,
}

impl AwaitedReply {
    /// False once nobody waits for the reply any more.
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        match &self.reply_to {
            ReplyTo::Task(sender) => !sender.is_closed(),
            ReplyTo::Callback(_) => true,
        }
    }

    /// Delivers the reply.
    pub fn deliver(self, reply: Result<Value, NoReply>) {
        match self.reply_to {
            // The receiver is gone if its task waits no more.
            ReplyTo::Task(sender) => drop(sender.send(reply)),
            // A panic costs this command only. What the callback drops answers its call.
            ReplyTo::Callback(callback) => drop(catch_unwind(AssertUnwindSafe(|| callback(reply)))),
        }
    }
}

/// A reply to wait for. Dropping this ignores the reply; the command is sent all the same.
#[derive(Debug)]
pub struct Pending(pub oneshot::Receiver<Result<Value, NoReply>>);

impl Pending {
    /// The reply, or why there is none.
    ///
    /// # Errors
    /// The refusal, or why there is no reply.
    pub async fn reply(self) -> Result<Value, NoReply> {
        self.0.await.unwrap_or(Err(NoReply::Dropped))
    }
}

/// True if the server does not have the script.
#[must_use]
pub fn is_unknown_script(reply: &Result<Value, NoReply>) -> bool {
    matches!(reply, Err(NoReply::Refused(error)) if error.kind() == Some(redis::ServerErrorKind::NoScript))
}
