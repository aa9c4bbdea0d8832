//! Keeps the engine from resending commands that may have run.
//!
//! The engine keeps each request until it has an answer. When no node tells it which node serves what, it retries all
//! of them, even those that were sent and whose reply is missing or unread. A SET would find its own key, and a release
//! would find its key gone.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustc_hash::FxHashMap;

/// The pending requests of one cluster connection, by number, and whether each may have run.
#[derive(Default)]
pub struct Once {
    requests: Mutex<FxHashMap<usize, bool>>,
    next: AtomicUsize,
}

/// A pending request. Dropping it removes it: it was answered, or nobody waits for it any more.
pub struct Request<'once> {
    once: &'once Once,
    number: usize,
}

impl Once {
    /// Adds a request that is about to be passed to the engine.
    #[must_use]
    pub fn begin(&self) -> Request<'_> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.requests().insert(number, false);
        Request { once: self, number }
    }

    /// True if a request may be sent now; from then on it may have run. False if it may have run already, or if nobody
    /// waits for it any more.
    #[must_use]
    pub fn may_send(&self, number: usize) -> bool {
        self.requests().get_mut(&number).is_some_and(|may_have_run| !std::mem::replace(may_have_run, true))
    }

    /// Notes that a request was not sent after all, or was refused.
    pub fn has_not_run(&self, number: usize) {
        if let Some(may_have_run) = self.requests().get_mut(&number) {
            *may_have_run = false;
        }
    }

    fn requests(&self) -> MutexGuard<'_, FxHashMap<usize, bool>> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Request<'_> {
    /// Its number. The engine gets it as the offset into the replies, and passes it on with each try.
    #[must_use]
    pub fn number(&self) -> usize {
        self.number
    }

    /// True if it was sent and not refused.
    #[must_use]
    pub fn may_have_run(&self) -> bool {
        self.once.requests().get(&self.number).is_some_and(|may_have_run| *may_have_run)
    }
}

impl Drop for Request<'_> {
    fn drop(&mut self) {
        self.once.requests().remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_have_run_is_not_sent_again() {
        let once = Once::default();
        let request = once.begin();
        let number = request.number();
        assert!(!request.may_have_run());
        assert!(once.may_send(number));
        assert!(request.may_have_run());
        assert!(!once.may_send(number), "it has no answer");
        once.has_not_run(number);
        assert!(!request.may_have_run());
        assert!(once.may_send(number), "it was sent on elsewhere");
        let other = once.begin();
        assert!(once.may_send(other.number()), "it is another");
    }

    #[test]
    fn what_nobody_waits_for_is_not_sent_and_leaves_nothing() {
        let once = Once::default();
        let number = once.begin().number();
        assert!(!once.may_send(number));
        once.has_not_run(number);
        assert!(!once.may_send(number));
        assert!(once.requests().is_empty());
    }
}
