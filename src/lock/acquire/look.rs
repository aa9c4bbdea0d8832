//! What a waiter reads of a key besides trying for it: who holds it, until when, and that it wants to be told of a change.

use std::rc::Rc;
use std::time::Duration;

use crate::connection::pipeline::Pipeline;
use crate::connection::reply::{NoReply, Pending};
use crate::connection::send_queue::Lane;
use crate::lock::endpoint_state::EndpointState;
use crate::model::refusal::words_of;
use crate::protocol::command;

/// What a waiter saw of a key that is held.
#[derive(Debug, Default)]
pub struct Sight {
    /// The holder's value, if it was read.
    pub holder: Option<String>,
    /// How long the key has still to live, if that was read and it has an end.
    pub time_left: Option<Duration>,
    /// The server will tell when the key changes.
    pub is_watched: bool,
}

/// The commands of a waiter that come before its SET.
pub struct Look {
    watch: Pending,
    read: Pending,
    time_left: Pending,
}

impl Look {
    /// Hands them in.
    pub fn start(pipeline: &Rc<Pipeline>, key: &str, limit: Duration) -> Self {
        Self {
            watch: pipeline.send(Lane::Regular, command::watch_next(), limit),
            read: pipeline.send(Lane::Joined, command::read(key), limit),
            time_left: pipeline.send(Lane::Joined, command::time_left(key), limit),
        }
    }

    /// Takes in the answers. They came before that to the SET; what is missing was not seen.
    pub async fn see(self, state: &Rc<EndpointState>, pipeline: &Rc<Pipeline>) -> Sight {
        let watch = self.watch.reply().await;
        let read = self.read.reply().await;
        let time_left = self.time_left.reply().await;
        if let Err(NoReply::Refused(error)) = &watch {
            state.supervisor.set_why_no_pushes(pipeline, words_of(error));
        }
        Sight {
            holder: read.as_ref().ok().and_then(command::holder_of),
            time_left: time_left.ok().as_ref().and_then(command::duration_of),
            // A key of another type was read, but its watch counts all the same.
            is_watched: watch.is_ok() && matches!(read, Ok(_) | Err(NoReply::Refused(_))),
        }
    }
}
