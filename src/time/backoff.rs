//! Pauses between retries: growing, capped and jittered.

use std::time::Duration;

const FIRST_DELAY: Duration = Duration::from_millis(25);
const MAX_DELAY: Duration = Duration::from_millis(250);

/// Counts failures in a row. The cap is low, because a lease of one second must survive an outage of half a second. The
/// jitter keeps a thousand processes from coming back in the same millisecond ([Exponential Backoff And
/// Jitter](https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/)).
#[derive(Clone, Copy, Debug, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The delay after one more failure: 25, 50, 100, 200, then 250 ms, each jittered down to no less than half.
    pub fn next_delay(&mut self) -> Duration {
        let full = FIRST_DELAY.saturating_mul(1 << self.failures.min(8)).min(MAX_DELAY);
        self.failures = self.failures.saturating_add(1);
        jittered(full)
    }

    /// Call this after a success: the next failure counts as the first.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

/// A random duration between half of `full` and all of it.
#[must_use]
pub fn jittered(full: Duration) -> Duration {
    full.mul_f64(0.5 + fastrand::f64() / 2.0)
}

/// When to retry one of `count` tries that have all failed. At least half of `soonest` passes; the rest is uniformly
/// random over a time long enough for `a_second` tries a second. So many tries are no burden, and yet some of them are
/// soon and notice when the cause has passed.
#[must_use]
pub fn spread(soonest: Duration, count: u32, a_second: u32) -> Duration {
    let all = (Duration::from_secs(1) / a_second).saturating_mul(count);
    jittered(soonest) + all.mul_f64(fastrand::f64())
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
        assert!(backoff.next_delay() <= FIRST_DELAY);
    }

    #[test]
    fn retries_are_spread_evenly_and_some_are_always_soon() {
        let soonest = Duration::from_millis(100);
        for count in [1, 100, 10_000, 100_000] {
            let all = Duration::from_millis(count.into());
            let mut delays: Vec<Duration> = (0..10_000).map(|_| spread(soonest, count, 1_000)).collect();
            delays.sort_unstable();
            assert!(delays[0] >= soonest / 2 && delays[9_999] <= soonest + all, "{count}");
            // A tenth of them in a tenth of the time, within six standard deviations.
            for part in 1..10 {
                let due = delays.partition_point(|delay| *delay <= soonest + all * part / 10);
                let expected = 1_000 * usize::try_from(part).unwrap();
                assert!(due + 300 >= expected, "{due} of {count} in {part} tenths");
                let early = delays.partition_point(|delay| *delay < soonest / 2 + all * part / 10);
                assert!(early <= expected + 300, "{early} of {count} in {part} tenths");
            }
        }
    }
}
