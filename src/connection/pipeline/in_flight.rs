//! One batch in flight: distributes its replies, and counts it among the commands in flight.

use std::rc::Rc;

use redis::Value;
use tokio::time::Instant;

use super::{Pipeline, Places};
use crate::connection::reply::{AwaitedReply, NoReply};

/// A batch in flight. Dropping it ends that, for whatever reason.
pub struct InFlight {
    pipeline: Rc<Pipeline>,
    size: usize,
    places: Rc<Places>,
}

impl InFlight {
    /// The batch is written now.
    pub fn begin(pipeline: &Rc<Pipeline>, places: Rc<Places>) -> Self {
        let size = places.borrow().len();
        pipeline.under_way.set(pipeline.under_way.get() + size);
        pipeline.batches.borrow_mut().insert(Rc::as_ptr(&places), Rc::clone(&places));
        Self { pipeline: Rc::clone(pipeline), size, places }
    }

    /// Writes the batch with the first poll, and passes each reply to the one who waits for it.
    pub async fn exchange(self, commands: redis::Pipeline) {
        #[cfg(test)]
        let key = commands
            .cmd_iter()
            .find_map(crate::protocol::command::key_of)
            .map_or_else(String::new, |key| String::from_utf8_lossy(key).into_owned());
        let (mut values, no_reply) = match self.pipeline.transport.send(commands).await {
            Ok(values) => {
                self.pipeline.heard.set(Instant::now());
                // A value that is missing here has no reply.
                (values.into_iter(), NoReply::Dropped)
            }
            Err(no_reply) => (Vec::new().into_iter(), no_reply),
        };
        fail_point!("exchange", key);
        for waiting in self.end() {
            let reply = match values.next() {
                Some(Value::ServerError(error)) => Err(NoReply::Refused(error)),
                Some(value) => Ok(value),
                None => Err(no_reply.clone()),
            };
            if let Some(waiting) = waiting {
                waiting.take(reply);
            }
        }
    }

    /// Ends the batch, and returns those who still wait.
    fn end(&self) -> Vec<Option<AwaitedReply>> {
        self.pipeline.batches.borrow_mut().remove(&Rc::as_ptr(&self.places));
        self.places.take()
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.pipeline.under_way.set(self.pipeline.under_way.get() - self.size);
        // After a panic: whether the commands ran is unknown.
        for waiting in self.end().into_iter().flatten() {
            waiting.take(Err(NoReply::Dropped));
        }
        if !self.pipeline.send_queue.borrow().is_empty() {
            self.pipeline.see_to_flush();
        }
    }
}
