//! A value whose SET was sent, and whether that can still run.
//!
//! A SET can reach redis after everything that is sent later on another connection: it sits in the old socket until redis
//! reads it. So the old connection is killed first (`CLIENT KILL`), and only then is the key looked at.

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

/// The connection that a command was sent on, for after it broke.
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
    /// The moment before.
    pub when: Moment,
    /// How often in a row the key had gone from holder to holder inside this process when this was sent.
    pub hand_overs: u32,
    /// The connection whose reply is missing; `None` where redis did answer.
    pub origin: Option<Origin>,
}

/// The smallest limit of a command's word that a server can be set to (`proto-max-bulk-len`): what is longer may be what
/// the connection broke of.
const SURELY_TAKEN: usize = 1 << 20;

impl Sent {
    /// A new value for a key, that is sent now.
    ///
    /// # Errors
    /// Where the operating system has no random numbers to give.
    pub fn now(key: impl Into<Box<str>>, settings: Arc<Settings>) -> Result<Self, Error> {
        let claim = Claim::new(key, settings)?;
        Ok(Self { claim, when: Moment::now(), hand_overs: 0, origin: None })
    }

    /// The same value, whose reply is missing on `live`.
    #[must_use]
    pub fn unanswered_on(self, pipeline: &Pipeline) -> Self {
        Self { origin: Some(Origin::of(pipeline)), ..self }
    }

    /// The same value, of which redis has said that it is there.
    #[must_use]
    pub fn answered(self) -> Self {
        Self { origin: None, ..self }
    }

    /// With what it was sent.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.claim.settings
    }

    /// The SET.
    #[must_use]
    pub fn take(&self) -> Cmd {
        command::take(self.claim.key(), &self.claim.value(), self.settings().terms.ttl)
    }

    /// False where a connection breaks at whatever names it: a server that is set to take no such words hangs up, and
    /// does so again when it is asked what became of it. It is left to its ttl then.
    #[must_use]
    pub fn can_be_asked_about(&self) -> bool {
        self.claim.key().len().max(self.settings().owner.len()) < SURELY_TAKEN
    }

    /// True once nothing that was sent on its connection can run after what is sent now on `live`. Asked once for each
    /// connection that broke, however many values were sent on it.
    pub async fn has_run_or_never_will(&self, pipeline: &Rc<Pipeline>) -> bool {
        let Some(origin) = &self.origin else { return true };
        // Which of a cluster's connections it was, and what became of that, only its engine knows.
        if !pipeline.keeps_order() {
            return false;
        }
        // The same connection answers in order.
        if origin.generation == pipeline.generation {
            return true;
        }
        let closing: Rc<OnceCell<bool>> =
            Rc::clone(pipeline.closed.borrow_mut().entry(origin.generation).or_default());
        *closing.get_or_init(|| close(pipeline, origin, self.settings())).await
    }
}

/// Ends a connection from the server's side, if that has not happened by itself.
async fn close(pipeline: &Rc<Pipeline>, origin: &Origin, settings: &Settings) -> bool {
    match (&origin.identity, &pipeline.identity) {
        // Numbers only grow while a server lives, so it was started again, and what its sockets held is gone with it.
        (Some(old), Some(new)) if new.number <= old.number => true,
        // Whether there was such a connection does not matter: now there is none.
        (Some(old), _) => pipeline.ask(command::kill(old), settings.command_timeout).await.is_ok(),
        (None, _) => false,
    }
}
