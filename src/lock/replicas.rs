//! Locks that replicas must have before they count: sends WAIT right behind the SET, for one lock at a time.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::MutexGuard;
use tokio::time::{Instant, timeout};

use crate::connection::pipeline::Pipeline;
use crate::connection::reply::Pending;
use crate::connection::send_queue::Lane;
use crate::lock::endpoint_state::EndpointState;
use crate::model::error::Error;
use crate::model::settings::Settings;
use crate::protocol::command;

/// The longest WAIT. While it runs, redis answers nothing else on this connection.
const MAX_WAIT: Duration = Duration::from_millis(500);

/// Redis checks ten times a second whether a WAIT is over.
const WAIT_GRANULARITY: Duration = Duration::from_millis(110);

/// Waits for the turn to send WAIT; `None` if it has not come within `limit`. Redis holds up everything on a connection
/// during WAIT, so at most one may be in front of a renewal.
pub async fn take_turn(state: &EndpointState, limit: Option<Duration>) -> Option<MutexGuard<'_, ()>> {
    match limit {
        Some(limit) => timeout(limit, state.replication.lock()).await.ok(),
        None => Some(state.replication.lock().await),
    }
}

/// A WAIT that was sent right behind a SET.
pub struct Replication {
    pipeline: Rc<Pipeline>,
    reply: Pending,
    limit: Duration,
}

impl Replication {
    /// Sends it. The reply comes within `remaining`.
    #[must_use]
    pub fn start(pipeline: &Rc<Pipeline>, settings: &Settings, remaining: Duration) -> Self {
        let limit = (remaining.saturating_sub(WAIT_GRANULARITY) / 2).min(MAX_WAIT);
        let command = command::replicated(settings.min_replicas, limit);
        let reply = pipeline.send(Lane::Joined, command, settings.command_timeout);
        pipeline.hold_up(pipeline.turn() + settings.command_timeout);
        Self { pipeline: Rc::clone(pipeline), reply, limit }
    }

    /// Waits for the reply.
    ///
    /// # Errors
    /// Too few replicas have the key, or the reply does not say how many.
    /// That too few have it, or why that is not known.
    pub async fn end(self, settings: &Settings, key: &str) -> Result<(), Error> {
        let reply = self.reply.reply().await;
        self.pipeline.hold_up(Instant::now());
        let reached = match reply {
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
