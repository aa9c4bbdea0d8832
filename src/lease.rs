//! Pure arithmetic on time: how long a lease is certain, when it is renewed, when it is over. No I/O, no clock.

use std::time::Duration;

use crate::clock::Moment;

/// What a lease was agreed on when the lock was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// How long redis keeps the key after it was set or extended.
    pub ttl: Duration,
    /// How long after one renewal the next is sent; `None` is never.
    pub interval: Option<Duration>,
    /// How long after the acquisition renewals stop and the reservation counts as lost; `None` is never.
    pub max_hold: Option<Duration>,
}

impl Terms {
    /// The interval when none is given: a third of the ttl, so that two renewals may fail before the lease ends.
    #[must_use]
    pub fn default_interval(ttl: Duration) -> Duration {
        (ttl / 3).max(Duration::from_millis(1))
    }
}

/// How long after the moment before it was sent a SET or an extend with this ttl is certain to hold.
///
/// Redis counts from later (when it ran the command), so its key outlives this. Taken off the ttl: a
/// millisecond, to which redis rounds, and a thousandth, for two clocks that run at different speeds
/// (NTP slews by 0.05 % at most: [adjtime(3)](https://man7.org/linux/man-pages/man3/adjtime.3.html)).
fn certain_for(ttl: Duration) -> Duration {
    let rounding = Duration::from_millis(1).min(ttl / 10);
    ttl.saturating_sub(ttl / 1000 + rounding)
}

/// What a lease needs at some moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing until then.
    Sleep(Moment),
    /// A renewal is due.
    Renew,
    /// The deadline has passed without a renewal that was known to succeed.
    Expired,
    /// It was held for as long as it may be.
    HeldTooLong,
}

/// 584 years at most, which is longer than the clock counts.
fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// The life of one lease on our clock. There may be a hundred thousand of them, so that it keeps what is its own, and is
/// told the interval of its terms where that counts.
#[derive(Clone, Copy, Debug)]
pub struct Lease {
    /// Nanoseconds.
    ttl: u64,
    /// When it was held for as long as it may be; [`Moment::NEVER`] if that is for ever.
    last: Moment,
    /// The moment before the last SET or extend that succeeded was sent.
    renewed: Moment,
    /// When the next renewal is due; [`Moment::NEVER`] if none is to come.
    due: Moment,
}

impl Lease {
    /// A lease whose SET was sent after `sent`.
    #[must_use]
    pub fn begin(terms: Terms, sent: Moment) -> Self {
        let Terms { ttl, interval, max_hold } = terms;
        let last = max_hold.map_or(Moment::NEVER, |longest| sent.after(longest));
        let mut lease = Self { ttl: nanoseconds(ttl), last, renewed: sent, due: Moment::NEVER };
        lease.due = lease.regular(interval);
        lease
    }

    /// How long redis keeps the key after it was set or extended.
    #[must_use]
    pub fn ttl(&self) -> Duration {
        Duration::from_nanos(self.ttl)
    }

    /// From now on redis keeps it for this long.
    pub fn set_ttl(&mut self, ttl: Duration) {
        self.ttl = nanoseconds(ttl);
    }

    /// True where it ends before a renewal is due: it was asked for, and ends without an alarm.
    #[must_use]
    pub fn never_renews(&self, interval: Option<Duration>) -> bool {
        interval.is_none_or(|interval| interval >= self.ttl())
    }

    /// An extend that was sent after `sent` has succeeded.
    pub fn renew(&mut self, interval: Option<Duration>, sent: Moment) {
        // Replies come in order, but those of two connections need not.
        self.renewed = self.renewed.max(sent);
        self.due = self.regular(interval);
    }

    /// A renewal is under way, or cannot be sent: the next is due at `when`, `None` is when somebody says so.
    pub fn postpone(&mut self, when: Option<Moment>) {
        self.due = when.unwrap_or(Moment::NEVER);
    }

    /// True while no renewal is due by itself.
    #[must_use]
    pub fn is_postponed(&self) -> bool {
        self.due == Moment::NEVER
    }

    /// Until when the lease is certain.
    #[must_use]
    pub fn certain_until(&self) -> Moment {
        self.renewed.after(certain_for(self.ttl())).min(self.last)
    }

    /// When something is to be done next: at once, if that has passed.
    #[must_use]
    pub fn next(&self) -> Moment {
        self.due.min(self.certain_until())
    }

    /// What is to be done at `now`.
    #[must_use]
    pub fn step(&self, now: Moment) -> Step {
        let end = self.certain_until();
        if now >= end {
            return if now >= self.last { Step::HeldTooLong } else { Step::Expired };
        }
        if now >= self.due { Step::Renew } else { Step::Sleep(self.due.min(end)) }
    }

    fn regular(&self, interval: Option<Duration>) -> Moment {
        match interval {
            Some(length) if !self.never_renews(interval) => self.renewed.after(length),
            _ => Moment::NEVER,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn terms(ttl: Duration, interval: Option<Duration>, max_hold: Option<Duration>) -> Terms {
        Terms { ttl, interval, max_hold }
    }

    fn at(seconds: f64) -> Moment {
        Moment::ZERO.after(Duration::from_secs_f64(1000.0 + seconds))
    }

    #[test]
    fn a_lease_is_renewed_each_interval_and_certain_for_less_than_its_ttl() {
        let mut lease = Lease::begin(terms(3 * SECOND, Some(SECOND), None), at(0.0));
        assert_eq!(lease.step(at(0.0)), Step::Sleep(at(1.0)));
        assert_eq!(lease.next(), at(1.0));
        assert_eq!(lease.step(at(1.0)), Step::Renew);
        lease.postpone(None);
        assert_eq!(lease.next(), lease.certain_until());
        assert_eq!(lease.step(at(1.1)), Step::Sleep(lease.certain_until()));
        lease.renew(Some(SECOND), at(1.0));
        assert_eq!(lease.step(at(1.5)), Step::Sleep(at(2.0)));
        assert_eq!(lease.certain_until(), at(1.0).after(Duration::from_millis(2996)));
    }

    #[test]
    fn an_unrenewed_lease_expires_before_redis_deletes_the_key() {
        let lease = Lease::begin(terms(SECOND, Some(SECOND / 3), None), at(0.0));
        assert_eq!(lease.step(at(0.9979)), Step::Renew);
        assert_eq!(lease.step(at(0.998)), Step::Expired);
    }

    #[test]
    fn an_interval_as_long_as_the_ttl_is_never_a_renewal() {
        for interval in [None, Some(SECOND), Some(5 * SECOND)] {
            let lease = Lease::begin(terms(SECOND, interval, None), at(0.0));
            assert!(lease.never_renews(interval));
            assert_eq!(lease.step(at(0.5)), Step::Sleep(lease.certain_until()));
        }
    }

    #[test]
    fn a_longest_hold_ends_even_a_lease_that_was_just_renewed() {
        let mut lease = Lease::begin(terms(SECOND, Some(SECOND / 4), Some(2 * SECOND)), at(0.0));
        lease.renew(Some(SECOND / 4), at(1.9));
        assert_eq!(lease.certain_until(), at(2.0));
        assert_eq!(lease.step(at(1.95)), Step::Sleep(at(2.0)));
        assert_eq!(lease.step(at(2.0)), Step::HeldTooLong);
    }

    #[test]
    fn a_late_reply_to_an_earlier_renewal_does_not_shorten_the_lease() {
        let mut lease = Lease::begin(terms(SECOND, Some(SECOND / 4), None), at(0.0));
        lease.renew(Some(SECOND / 4), at(0.5));
        lease.renew(Some(SECOND / 4), at(0.25));
        assert_eq!(lease.certain_until(), at(0.5).after(certain_for(SECOND)));
    }

    #[test]
    fn the_shortest_leases_keep_most_of_their_ttl() {
        assert!(certain_for(Duration::from_millis(2)) > Duration::from_micros(1700));
    }
}
