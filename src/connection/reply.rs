//! The reply to one command: why there may be none, who waits for it and for how long, and how it gets there.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use redis::{ServerError, Value};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::model::error::Error;
use crate::model::settings::Settings;

/// Why a command has no reply that could be used.
#[derive(Clone, Debug)]
pub enum NoReply {
    /// An error reply.
    Refused(ServerError),
    /// The connection broke; whether the command ran is unknown.
    Dropped,
    /// It was not sent, and will not run: the node of a cluster that would serve it cannot be used, for this reason; or
    /// (`None`) the connection was gone.
    Unsent(Option<Box<Error>>),
    /// No reply in time; the command may still run.
    TimedOut,
    /// No time was left before it could be sent; it will not run.
    Overdue,
}

impl NoReply {
    /// The trouble as an error that names what was tried.
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
                // What the node said when it was connected to.
                Some(refusal) => refusal.clone(),
            },
            Self::TimedOut | Self::Overdue => {
                // One limit for a call, however many commands it took.
                let after_ms = settings.command_timeout.as_millis();
                Error::Timeout { endpoint, command, key, after_ms, consequence: "" }
            }
        }
    }
}

/// Where the reply to one command goes.
pub enum Taker {
    /// To a task that waits for it.
    Task(oneshot::Sender<Result<Value, NoReply>>),
    /// To code that is run when it is there: nothing has to be woken, and no task made, for what goes well.
    Code(Box<dyn FnOnce(Result<Value, NoReply>)>),
}

/// A command that was handed in and has no reply yet.
pub struct AwaitedReply {
    /// Where its reply goes.
    pub taker: Taker,
    /// When its time is up.
    pub end: Instant,
    /// How long that was.
    pub limit: Duration,
}

impl AwaitedReply {
    /// False once nobody waits for the reply any more.
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        match &self.taker {
            Taker::Task(sender) => !sender.is_closed(),
            Taker::Code(_) => true,
        }
    }

    /// Hands the reply over.
    pub fn take(self, reply: Result<Value, NoReply>) {
        match self.taker {
            // A receiver that is gone has given up waiting.
            Taker::Task(sender) => drop(sender.send(reply)),
            // A panic is one command's. What it was to answer is answered by what it drops.
            Taker::Code(code) => drop(catch_unwind(AssertUnwindSafe(|| code(reply)))),
        }
    }
}

/// A reply that is on its way. The command has been handed in; dropping this forgets the reply, not the command.
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

/// True for the reply to a script that the server does not know.
#[must_use]
pub fn is_unknown_script(reply: &Result<Value, NoReply>) -> bool {
    matches!(reply, Err(NoReply::Refused(error)) if error.kind() == Some(redis::ServerErrorKind::NoScript))
}
