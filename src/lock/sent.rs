//! A value whose SET was sent, and whether the SET may still run.
//!
//! A SET can reach redis after commands that were sent later on another connection: until redis reads it, it is in the
//! old connection's socket. So the old connection is killed first (`CLIENT KILL`), and only then is the key read.

use std::rc::Rc;
use std::sync::Arc;

use redis::Cmd;
use tokio::sync::OnceCell;

use crate::connection::pipeline::Pipeline;
use crate::model::claim::Claim;
use crate::model::error::Error;
use crate::model::settings::Settings;
use crate::protocol::command::{self, Identity};
use crate::time::clock::Moment;

/// The connection that a command was sent on. Used after that connection broke.
#[derive(Clone, Debug)]
pub struct Origin {
    generation: u64,
    identity: Option<Identity>,
}

impl Origin {
    /// Remembers a connection.
    #[must_use]
    pub fn of(pipeline: &Pipeline) -> Self {
        Self { generation: pipeline.generation, identity: pipeline.identity.clone() }
    }
}

/// A value whose SET was sent.
#[derive(Clone, Debug)]
pub struct Sent {
    /// The key, and the value with its token.
    pub claim: Claim,
    /// The moment before it was sent.
    pub when: Moment,
    /// Consecutive in-process hand-overs before this one.
    pub hand_overs: u32,
    /// The connection whose reply is missing; `None` if redis has answered.
    pub origin: Option<Origin>,
}

/// The smallest limit on the length of an argument that redis can be configured with (`proto-max-bulk-len`). A longer
/// argument may be what broke the connection.
const SMALLEST_BULK_LIMIT: usize = 1 << 20;

impl Sent {
    /// A new value for a key. The SET must be sent now.
    ///
    /// # Errors
    /// If the operating system gives no random numbers.
    pub fn now(key: impl Into<Box<str>>, settings: Arc<Settings>) -> Result<Self, Error> {
        let claim = Claim::new(key, settings)?;
        Ok(Self { claim, when: Moment::now(), hand_overs: 0, origin: None })
    }

    /// The same value, with its reply missing on `pipeline`.
    #[must_use]
    pub fn unanswered_on(self, pipeline: &Pipeline) -> Self {
        Self { origin: Some(Origin::of(pipeline)), ..self }
    }

    /// The same value, after redis has confirmed that the key holds it.
    #[must_use]
    pub fn answered(self) -> Self {
        Self { origin: None, ..self }
    }

    /// The settings of its claim.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.claim.settings
    }

    /// The SET.
    #[must_use]
    pub fn take(&self) -> Cmd {
        command::take(self.claim.key(), &self.claim.value(), self.settings().terms.ttl)
    }

    /// False if naming the value may break a connection: a server that is configured to refuse arguments of that length
    /// hangs up, and would do so again. Such a value is left to its ttl.
    #[must_use]
    pub fn can_be_asked_about(&self) -> bool {
        self.claim.key().len().max(self.settings().owner.len()) < SMALLEST_BULK_LIMIT
    }

    /// True if no command of the old connection can run after what is sent now on `pipeline`. The server is asked once
    /// for each broken connection, however many values were sent on it.
    pub async fn has_run_or_never_will(&self, pipeline: &Rc<Pipeline>) -> bool {
        let Some(origin) = &self.origin else { return true };
        // Only the engine knows which of a cluster's connections it was, and whether that has ended.
        if !pipeline.keeps_order() {
            return false;
        }
        // One connection runs its commands in order.
        if origin.generation == pipeline.generation {
            return true;
        }
        let closing: Rc<OnceCell<bool>> =
            Rc::clone(pipeline.closed.borrow_mut().entry(origin.generation).or_default());
        *closing.get_or_init(|| close(pipeline, origin, self.settings())).await
    }
}

/// Closes a connection on the server's side, if it is still open there.
async fn close(pipeline: &Rc<Pipeline>, origin: &Origin, settings: &Settings) -> bool {
    match (&origin.identity, &pipeline.identity) {
        // Numbers only grow while a server runs, so it has restarted, and its old sockets are gone.
        (Some(old), Some(new)) if new.number <= old.number => true,
        // Whether there was such a connection does not matter: now there is none.
        (Some(old), _) => pipeline.ask(command::kill(old), settings.command_timeout).await.is_ok(),
        (None, _) => false,
    }
}
