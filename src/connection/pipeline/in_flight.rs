//! One batch of commands that is written and not answered: its replies, and its place among what is under way.

use std::rc::Rc;

use redis::{Pipeline, Value};
use tokio::time::Instant;

use super::{Live, Places};
use crate::connection::cluster::Failure;
use crate::connection::reply::{Trouble, Waiting};

/// One batch that is written and not answered. Its place is given back when this is dropped, whatever ended it.
pub struct UnderWay {
    live: Rc<Live>,
    size: usize,
    places: Rc<Places>,
}

impl UnderWay {
    /// It is written now.
    pub fn begin(live: &Rc<Live>, places: Rc<Places>) -> Self {
        let size = places.borrow().len();
        live.under_way.set(live.under_way.get() + size);
        live.batches.borrow_mut().insert(Rc::as_ptr(&places), Rc::clone(&places));
        Self { live: Rc::clone(live), size, places }
    }

    /// Hands it in with the first poll, and its replies to those who wait for them.
    pub async fn exchange(self, commands: Pipeline) {
        #[cfg(test)]
        let key = commands
            .cmd_iter()
            .find_map(crate::protocol::command::key_of)
            .map_or_else(String::new, |key| String::from_utf8_lossy(key).into_owned());
        let (mut values, trouble) = match self.live.wire.send(commands).await {
            Ok(values) => {
                self.live.heard.set(Instant::now());
                // One that is missing in them has no reply.
                (values.into_iter(), Trouble::Dropped)
            }
            Err(Failure::Lost) => (Vec::new().into_iter(), Trouble::Dropped),
            Err(Failure::Refused(error)) => (Vec::new().into_iter(), Trouble::Refused(error)),
            Err(Failure::Unsent(failure)) => {
                (Vec::new().into_iter(), Trouble::Unsent(Some(Box::new(failure))))
            }
        };
        fail_point!("exchange", key);
        for waiting in self.end() {
            let reply = match values.next() {
                Some(Value::ServerError(error)) => Err(Trouble::Refused(error)),
                Some(value) => Ok(value),
                None => Err(trouble.clone()),
            };
            if let Some(waiting) = waiting {
                waiting.take(reply);
            }
        }
    }

    /// It is answered: gives those who still wait.
    fn end(&self) -> Vec<Option<Waiting>> {
        self.live.batches.borrow_mut().remove(&Rc::as_ptr(&self.places));
        self.places.take()
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.live.under_way.set(self.live.under_way.get() - self.size);
        // Whoever waits still, after a panic, is told so: whether the commands ran is unknown.
        for waiting in self.end().into_iter().flatten() {
            waiting.take(Err(Trouble::Dropped));
        }
        if !self.live.outbox.borrow().is_empty() {
            self.live.see_to_flush();
        }
    }
}
