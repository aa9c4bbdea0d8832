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

/// When the next of `count` tries is due, all of which have failed: after half to all of `soonest`, and later the more
/// there are, so that they are no burden. Each time is as likely as any other, so that however many there are, some come
/// soon, and it is seen when what they failed for has passed.
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
        assert!(backoff.next_delay() <= FIRST);
    }

    #[test]
    fn of_many_tries_some_are_always_soon_and_they_are_spread_over_all_of_their_time() {
        let soonest = Duration::from_millis(100);
        for count in [1, 100, 10_000, 100_000] {
            let all = Duration::from_millis(count.into());
            let mut delays: Vec<Duration> = (0..10_000).map(|_| spread(soonest, count, 1_000)).collect();
            delays.sort_unstable();
            assert!(delays[0] >= soonest / 2 && delays[9_999] <= soonest + all, "{count}");
            // A tenth of them in a tenth of the time, give or take six times what is usual.
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
