//! How long to wait before something that failed is tried again: growing, capped and jittered.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(25);
const LONGEST: Duration = Duration::from_millis(250);

/// Counts failures in a row. The cap is low, because a lease of a second must survive an outage of half of it;
/// the jitter keeps a thousand processes from coming back in the same millisecond
/// ([Exponential Backoff And Jitter](https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/)).
#[derive(Clone, Copy, Debug, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The delay after one more failure: half to all of 25, 50, 100, 200, 250, 250 … ms.
    pub fn next_delay(&mut self) -> Duration {
        let full = FIRST.saturating_mul(1 << self.failures.min(8)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        jittered(full)
    }

    /// A success: the next failure is the first again.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

/// Half to all of `full`, at random.
#[must_use]
pub fn jittered(full: Duration) -> Duration {
    full.mul_f64(0.5 + fastrand::f64() / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_are_capped_and_start_over() {
        let mut backoff = Backoff::default();
        for full in [25, 50, 100, 200, 250, 250, 250, 250, 250, 250, 250] {
            let full = Duration::from_millis(full);
            let delay = backoff.next_delay();
            assert!(delay >= full / 2 && delay <= full, "{delay:?} of {full:?}");
        }
        backoff.reset();
        assert!(backoff.next_delay() <= FIRST);
    }
}
