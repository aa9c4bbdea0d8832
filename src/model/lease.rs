//! Pure arithmetic on time: how long a lease is certain, when it is renewed, when it is over. No I/O, no clock.

use std::time::Duration;

use crate::time::clock::Moment;

/// What a lease was agreed on when the lock was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// How long redis keeps the key after it was set or extended. Whole milliseconds, which is what redis counts in.
    pub ttl: Duration,
    /// How long after one renewal the next is sent.
    pub interval: Interval,
    /// How long after the acquisition renewals stop and the reservation counts as lost; `None` is never.
    pub max_hold: Option<Duration>,
}

/// How long after one renewal the next is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interval {
    /// A third of the ttl, whatever that is, so that two renewals may fail before the lease ends.
    Third,
    /// So long.
    Every(Duration),
    /// It is never sent.
    Never,
}

impl Interval {
    /// The interval of a lease with this ttl; `None` where it ends before a renewal is due.
    #[must_use]
    pub fn of(self, ttl: Duration) -> Option<Duration> {
        match self {
            Self::Third => Some((ttl / 3).max(Duration::from_millis(1))),
            Self::Every(length) => Some(length),
            Self::Never => None,
        }
        .filter(|length| *length < ttl)
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
    /// Nothing yet.
    Nothing,
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

/// What one extend may have changed, as long as it has no answer.
#[derive(Clone, Copy, Debug)]
pub struct Asking {
    before: Moment,
    after: Moment,
}

/// The life of one lease on our clock. There may be a hundred thousand of them, so that it keeps what is its own, and is
/// told the interval of its terms where that counts.
#[derive(Clone, Copy, Debug)]
pub struct Lease {
    /// What redis is asked to keep the key for. Nanoseconds.
    ttl: u64,
    /// When it was held for as long as it may be; [`Moment::NEVER`] if that is for ever.
    last: Moment,
    /// The moment before the last SET or extend that succeeded was sent, or the last [`Self::shorten`]: the answer to
    /// what was sent before says nothing new.
    renewed: Moment,
    /// Until when it is certain.
    end: Moment,
    /// When the next renewal is due; [`Moment::NEVER`] if none is to come.
    due: Moment,
    /// Until when redis may have the key, by all that it was asked and has not refused.
    key_end: Moment,
}

impl Lease {
    /// A lease whose SET was sent after `sent`.
    #[must_use]
    pub fn begin(terms: Terms, sent: Moment) -> Self {
        let last = terms.max_hold.map_or(Moment::NEVER, |longest| sent.after(longest));
        let mut lease =
            Self { ttl: 0, last, renewed: sent, end: sent, due: Moment::NEVER, key_end: Moment::ZERO };
        lease.ask(terms.ttl, sent);
        lease.agree(terms.ttl, sent);
        lease.renew(terms.interval, terms.ttl, sent);
        lease
    }

    /// How long redis keeps the key after it was set or extended.
    #[must_use]
    pub fn ttl(&self) -> Duration {
        Duration::from_nanos(self.ttl)
    }

    /// The caller wants no more than this from `now` on. A ttl that is not shorter changes nothing: a longer one
    /// counts once redis has confirmed it. Redis keeps the key for as long as it was asked to before; it is our own
    /// lease alone that ends sooner.
    pub fn shorten(&mut self, ttl: Duration, now: Moment) {
        if ttl < self.ttl() {
            self.ttl = nanoseconds(ttl);
            self.renewed = self.renewed.max(now);
            self.end = self.end.min(now.after(certain_for(ttl)));
        }
    }

    /// True where it ends before a renewal is due: it was asked for, and ends without an alarm.
    #[must_use]
    pub fn never_renews(&self, interval: Interval) -> bool {
        interval.of(self.ttl()).is_none()
    }

    /// The caller has asked for this ttl, and redis has confirmed it by the answer to what was sent after `sent`.
    pub fn agree(&mut self, ttl: Duration, sent: Moment) {
        if sent >= self.renewed {
            self.ttl = nanoseconds(ttl);
        }
    }

    /// An extend to `ttl` that was sent after `sent` has succeeded. One that is older than what is known already (the
    /// replies of two connections come in any order) changes nothing; nor does one of a shorter ttl take away what redis
    /// has confirmed for longer.
    pub fn renew(&mut self, interval: Interval, ttl: Duration, sent: Moment) {
        if sent >= self.renewed {
            self.renewed = sent;
            self.end = self.end.max(sent.after(certain_for(ttl))).min(self.last);
        }
        self.due = interval.of(self.ttl()).map_or(Moment::NEVER, |length| self.renewed.after(length));
    }

    /// An extend to `ttl` is sent now. Gives what [`Self::was_refused`] takes it back by.
    pub fn ask(&mut self, ttl: Duration, now: Moment) -> Asking {
        let before = self.key_end;
        self.key_end = before.max(now.after(ttl));
        Asking { before, after: self.key_end }
    }

    /// Redis has refused an extend: it has not run, and will not.
    pub fn was_refused(&mut self, asking: Asking) {
        if self.key_end == asking.after {
            self.key_end = asking.before;
        }
    }

    /// When the key is gone by itself, whichever of the extends without an answer have run: one that still lies in a
    /// dead connection then counts from when it runs.
    #[must_use]
    pub fn key_end(&self) -> Moment {
        self.key_end
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
        self.end
    }

    /// When something is to be done next: at once, if that has passed.
    #[must_use]
    pub fn next(&self) -> Moment {
        self.due.min(self.end)
    }

    /// What is to be done at `now`.
    #[must_use]
    pub fn step(&self, now: Moment) -> Step {
        if now >= self.end {
            return if now >= self.last { Step::HeldTooLong } else { Step::Expired };
        }
        if now >= self.due { Step::Renew } else { Step::Nothing }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn terms(ttl: Duration, interval: Interval, max_hold: Option<Duration>) -> Terms {
        Terms { ttl, interval, max_hold }
    }

    fn at(seconds: f64) -> Moment {
        Moment::ZERO.after(Duration::from_secs_f64(1000.0 + seconds))
    }

    #[test]
    fn a_lease_is_renewed_each_interval_and_certain_for_less_than_its_ttl() {
        let interval = Interval::Every(SECOND);
        let mut lease = Lease::begin(terms(3 * SECOND, interval, None), at(0.0));
        assert_eq!(lease.step(at(0.0)), Step::Nothing);
        assert_eq!(lease.next(), at(1.0));
        assert_eq!(lease.step(at(1.0)), Step::Renew);
        lease.postpone(None);
        assert_eq!(lease.next(), lease.certain_until());
        assert_eq!(lease.step(at(1.1)), Step::Nothing);
        lease.renew(interval, 3 * SECOND, at(1.0));
        assert_eq!(lease.next(), at(2.0));
        assert_eq!(lease.certain_until(), at(1.0).after(Duration::from_millis(2996)));
    }

    #[test]
    fn an_unrenewed_lease_expires_before_redis_deletes_the_key() {
        let lease = Lease::begin(terms(SECOND, Interval::Third, None), at(0.0));
        assert_eq!(lease.step(at(0.9979)), Step::Renew);
        assert_eq!(lease.step(at(0.998)), Step::Expired);
    }

    #[test]
    fn an_interval_as_long_as_the_ttl_is_never_a_renewal() {
        for interval in [Interval::Never, Interval::Every(SECOND), Interval::Every(5 * SECOND)] {
            let lease = Lease::begin(terms(SECOND, interval, None), at(0.0));
            assert!(lease.never_renews(interval));
            assert_eq!(lease.next(), lease.certain_until());
        }
    }

    #[test]
    fn a_third_of_the_ttl_is_a_third_of_what_the_ttl_is_now() {
        let mut lease = Lease::begin(terms(3 * SECOND, Interval::Third, None), at(0.0));
        assert_eq!(lease.next(), at(1.0));
        lease.agree(30 * SECOND, at(1.0));
        lease.renew(Interval::Third, 30 * SECOND, at(1.0));
        assert_eq!(lease.next(), at(11.0));
    }

    #[test]
    fn a_longest_hold_ends_even_a_lease_that_was_just_renewed() {
        let interval = Interval::Every(SECOND / 4);
        let mut lease = Lease::begin(terms(SECOND, interval, Some(2 * SECOND)), at(0.0));
        lease.renew(interval, SECOND, at(1.9));
        assert_eq!(lease.certain_until(), at(2.0));
        assert_eq!(lease.step(at(1.95)), Step::Nothing);
        assert_eq!(lease.step(at(2.0)), Step::HeldTooLong);
    }

    #[test]
    fn a_late_reply_to_an_earlier_renewal_changes_neither_deadline_nor_ttl() {
        let interval = Interval::Every(SECOND / 4);
        let mut lease = Lease::begin(terms(SECOND, interval, None), at(0.0));
        lease.renew(interval, SECOND, at(0.5));
        for ttl in [SECOND / 2, SECOND, 30 * SECOND] {
            lease.agree(ttl, at(0.25));
            lease.renew(interval, ttl, at(0.25));
            assert_eq!(lease.certain_until(), at(0.5).after(certain_for(SECOND)));
            assert_eq!(lease.ttl(), SECOND);
        }
    }

    #[test]
    fn a_heartbeat_that_was_sent_before_a_longer_ttl_was_confirmed_takes_nothing_from_it() {
        let interval = Interval::Every(SECOND);
        let mut lease = Lease::begin(terms(3 * SECOND, interval, None), at(0.0));
        // Asked for at 0.9, confirmed when the heartbeat of a second was under way.
        lease.agree(60 * SECOND, at(0.9));
        lease.renew(interval, 60 * SECOND, at(0.9));
        lease.renew(interval, 3 * SECOND, at(1.0));
        assert_eq!(lease.ttl(), 60 * SECOND);
        assert_eq!(lease.certain_until(), at(0.9).after(certain_for(60 * SECOND)));
        assert_eq!(lease.next(), at(2.0));
    }

    #[test]
    fn a_shorter_ttl_counts_from_when_it_was_asked_for_and_a_longer_one_does_not() {
        let mut lease = Lease::begin(terms(30 * SECOND, Interval::Every(20 * SECOND), None), at(0.0));
        lease.shorten(60 * SECOND, at(10.0));
        assert_eq!(lease.certain_until(), at(0.0).after(certain_for(30 * SECOND)));
        lease.shorten(2 * SECOND, at(10.0));
        assert_eq!(
            lease.certain_until(),
            at(10.0).after(certain_for(2 * SECOND)),
            "not from the last renewal"
        );
        assert_eq!(lease.ttl(), 2 * SECOND);
        // The answer to a renewal that was under way then.
        lease.renew(Interval::Every(20 * SECOND), 30 * SECOND, at(9.0));
        assert_eq!(lease.certain_until(), at(10.0).after(certain_for(2 * SECOND)));
        // A lease that would be over sooner is not made longer by it.
        let mut ending = Lease::begin(terms(30 * SECOND, Interval::Never, None), at(0.0));
        ending.shorten(20 * SECOND, at(25.0));
        assert_eq!(ending.certain_until(), at(0.0).after(certain_for(30 * SECOND)));
    }

    #[test]
    fn a_key_may_live_as_long_as_any_extend_that_was_not_refused_says() {
        let mut lease = Lease::begin(terms(3 * SECOND, Interval::Third, None), at(0.0));
        assert_eq!(lease.key_end(), at(3.0));
        let lost = lease.ask(3 * SECOND, at(1.0));
        let refused = lease.ask(3 * SECOND, at(2.0));
        assert_eq!(lease.key_end(), at(5.0));
        lease.was_refused(refused);
        assert_eq!(lease.key_end(), at(4.0), "the one before has no answer");
        lease.ask(9 * SECOND, at(2.0));
        lease.was_refused(lost);
        assert_eq!(lease.key_end(), at(11.0), "a later one has none either");
        lease.shorten(SECOND, at(2.5));
        assert_eq!(lease.key_end(), at(11.0), "redis is not asked to shorten");
    }

    #[test]
    fn the_shortest_leases_keep_most_of_their_ttl() {
        assert!(certain_for(Duration::from_millis(2)) > Duration::from_micros(1700));
    }
}
