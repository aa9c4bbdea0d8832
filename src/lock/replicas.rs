//! Locks that replicas must have before they count: how many have one is asked right behind it, one lock at a time.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::MutexGuard;
use tokio::time::timeout;

use crate::connection::pipeline::Pipeline;
use crate::connection::reply::Pending;
use crate::connection::send_queue::Lane;
use crate::lock::endpoint_state::EndpointState;
use crate::model::error::Error;
use crate::model::settings::Settings;
use crate::protocol::command;

/// The longest that a server is asked to wait for its replicas: until then it answers nothing else that we ask.
const LONGEST: Duration = Duration::from_millis(500);

/// Redis looks ten times a second whether such a wait is over.
const LATE: Duration = Duration::from_millis(110);

/// The turn to ask, once it has come; `None` if it has not within `limit`. Redis holds up everything on a connection while
/// it waits for replicas, so a renewal must not find more than one such wait before it.
pub async fn take_turn(state: &EndpointState, limit: Option<Duration>) -> Option<MutexGuard<'_, ()>> {
    match limit {
        Some(limit) => timeout(limit, state.replication.lock()).await.ok(),
        None => Some(state.replication.lock().await),
    }
}

/// The question how many replicas have what was just set, sent right behind it.
pub struct Replication {
    asked: Pending,
    limit: Duration,
}

impl Replication {
    /// The answers must be back within `remaining`.
    #[must_use]
    pub fn start(pipeline: &Rc<Pipeline>, settings: &Settings, remaining: Duration) -> Self {
        let limit = (remaining.saturating_sub(LATE) / 2).min(LONGEST);
        let command = command::replicated(settings.min_replicas, limit);
        Self { asked: pipeline.send(Lane::Joined, command, settings.command_timeout), limit }
    }

    /// # Errors
    /// That too few have it, or why that is not known.
    pub async fn end(self, settings: &Settings, key: &str) -> Result<(), Error> {
        let reached = match self.asked.reply().await {
            Ok(reply) => command::number_of(&reply).unwrap_or_default(),
            Err(no_reply) => return Err(no_reply.to_error(settings, "WAIT", key)),
        };
        if reached >= settings.min_replicas.into() {
            return Ok(());
        }
        Err(Error::TooFewReplicas {
            endpoint: Arc::clone(&settings.endpoint),
            key: key.to_owned(),
            reached,
            wanted: settings.min_replicas,
            after_ms: self.limit.as_millis(),
        })
    }
}
