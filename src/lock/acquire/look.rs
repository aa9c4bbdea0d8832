//! What a waiter reads besides trying for the key: who holds it and until when. It also asks the server to report a
//! change.

use std::rc::Rc;
use std::time::Duration;

use crate::connection::pipeline::Pipeline;
use crate::connection::reply::{NoReply, Pending};
use crate::connection::send_queue::Lane;
use crate::lock::endpoint_state::EndpointState;
use crate::model::refusal::words_of;
use crate::protocol::command;

/// What a waiter read of a key that somebody holds.
#[derive(Debug, Default)]
pub struct KeyState {
    /// The holder's value, if it was read.
    pub holder: Option<String>,
    /// How long the key will live, if that was read and the key has a ttl.
    pub time_left: Option<Duration>,
    /// The server will report a change of the key.
    pub is_watched: bool,
}

/// A waiter's commands before its SET.
pub struct Look {
    watch: Pending,
    read: Pending,
    time_left: Pending,
}

impl Look {
    /// Sends them.
    pub fn start(pipeline: &Rc<Pipeline>, key: &str, limit: Duration) -> Self {
        Self {
            watch: pipeline.send(Lane::Regular, command::watch_next(), limit),
            read: pipeline.send(Lane::Joined, command::read(key), limit),
            time_left: pipeline.send(Lane::Joined, command::time_left(key), limit),
        }
    }

    /// Waits for the replies; they come before that to the SET. A reply that is missing leaves its field empty.
    pub async fn finish(self, state: &Rc<EndpointState>, pipeline: &Rc<Pipeline>) -> KeyState {
        let watch = self.watch.reply().await;
        let read = self.read.reply().await;
        let time_left = self.time_left.reply().await;
        if let Err(NoReply::Refused(error)) = &watch {
            state.supervisor.set_why_no_pushes(pipeline, words_of(error));
        }
        KeyState {
            holder: read.as_ref().ok().and_then(command::holder_of),
            time_left: time_left.ok().as_ref().and_then(command::duration_of),
            // The read of a key of another type is refused, but it starts a watch all the same.
            is_watched: watch.is_ok() && matches!(read, Ok(_) | Err(NoReply::Refused(_))),
        }
    }
}
