//! Keeps the engine from resending commands that may have run.
//!
//! The engine keeps each request until it has an answer. When no node tells it which node serves what, it retries all
//! of them, even those that were sent and whose reply is missing or unread. A SET would find its own key, and a release
//! would find its key gone.

use std::collections::HashMap;
use std::ptr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use redis::Pipeline;

/// The requests of one cluster connection that somebody waits for, and whether each may have run.
#[derive(Default)]
pub struct Once(Mutex<HashMap<usize, bool>>);

/// One of them, until whoever waits has an answer or has left.
pub struct Request<'once> {
    once: &'once Once,
    id: usize,
}

/// Where the first of the commands is in memory. The engine moves a pipeline, and copies it never: that is the same for
/// each of its tries, and nothing else can be there as long as there may be another.
fn id_of(commands: &Pipeline) -> usize {
    commands.cmd_iter().next().map_or(0, |command| ptr::from_ref(command).addr())
}

impl Once {
    /// A request that is about to be handed to the engine.
    #[must_use]
    pub fn begin(&self, commands: &Pipeline) -> Request<'_> {
        let id = id_of(commands);
        self.requests().insert(id, false);
        Request { once: self, id }
    }

    /// Whether this is to be sent now; from here on it may have run. False where it may have run before, and where nobody
    /// waits for it any more.
    #[must_use]
    pub fn may_send(&self, commands: &Pipeline) -> bool {
        self.requests()
            .get_mut(&id_of(commands))
            .is_some_and(|may_have_run| !std::mem::replace(may_have_run, true))
    }

    /// It was not sent after all, or it was refused.
    pub fn has_not_run(&self, commands: &Pipeline) {
        if let Some(may_have_run) = self.requests().get_mut(&id_of(commands)) {
            *may_have_run = false;
        }
    }

    fn requests(&self) -> MutexGuard<'_, HashMap<usize, bool>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Request<'_> {
    /// Whether it was sent, and not refused.
    #[must_use]
    pub fn may_have_run(&self) -> bool {
        self.once.requests().get(&self.id).is_some_and(|may_have_run| *may_have_run)
    }
}

impl Drop for Request<'_> {
    fn drop(&mut self) {
        self.once.requests().remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn pipeline() -> Pipeline {
        let mut pipeline = redis::pipe();
        pipeline.cmd("SET").arg("k").arg("v");
        pipeline
    }

    #[test]
    fn what_may_have_run_is_not_sent_again() {
        let once = Once::default();
        let commands = pipeline();
        let request = once.begin(&commands);
        // As the engine keeps it.
        let commands = Arc::new(commands);
        assert!(!request.may_have_run());
        assert!(once.may_send(&commands));
        assert!(request.may_have_run());
        assert!(!once.may_send(&Arc::clone(&commands)), "it has no answer");
        once.has_not_run(&commands);
        assert!(!request.may_have_run());
        assert!(once.may_send(&commands), "it was sent on elsewhere");
        let other = pipeline();
        let _other = once.begin(&other);
        assert!(once.may_send(&other), "it is another");
    }

    #[test]
    fn what_nobody_waits_for_is_not_sent_and_leaves_nothing() {
        let once = Once::default();
        let commands = pipeline();
        drop(once.begin(&commands));
        assert!(!once.may_send(&commands));
        once.has_not_run(&commands);
        assert!(!once.may_send(&commands));
        assert!(once.requests().is_empty());
    }
}
