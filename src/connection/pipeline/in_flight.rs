//! One batch in flight: distributes its replies, and counts it among the commands in flight.

use std::rc::Rc;

use redis::Value;
use tokio::time::Instant;

use super::{Pipeline, ReplySlots};
use crate::connection::reply::{AwaitedReply, NoReply};

/// A batch in flight. Dropping it ends that, for whatever reason.
pub struct InFlight {
    pipeline: Rc<Pipeline>,
    number: u64,
    size: usize,
    slots: Rc<ReplySlots>,
}

impl InFlight {
    /// The batch is written now.
    pub fn begin(pipeline: &Rc<Pipeline>, slots: Rc<ReplySlots>) -> Self {
        let size = slots.borrow().len();
        pipeline.in_flight.set(pipeline.in_flight.get() + size);
        let number = pipeline.written.get();
        pipeline.written.set(number + 1);
        pipeline.batches.borrow_mut().insert(number, Rc::clone(&slots));
        Self { pipeline: Rc::clone(pipeline), number, size, slots }
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
                self.pipeline.last_reply.set(Instant::now());
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
                waiting.deliver(reply);
            }
        }
    }

    /// Ends the batch, and returns those who still wait.
    fn end(&self) -> Vec<Option<AwaitedReply>> {
        self.pipeline.batches.borrow_mut().remove(&self.number);
        self.slots.take()
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.pipeline.in_flight.set(self.pipeline.in_flight.get() - self.size);
        // After a panic: whether the commands ran is unknown.
        for waiting in self.end().into_iter().flatten() {
            waiting.deliver(Err(NoReply::Dropped));
        }
        if !self.pipeline.send_queue.borrow().is_empty() {
            self.pipeline.schedule_flush();
        }
    }
}
