//! Arithmetic on time: until when a lease is certain, and when its renewal is due. No I/O, no clock.

use std::time::Duration;

use crate::time::clock::Moment;

/// What the caller asked for when the lock was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// How long redis keeps the key after it was set or extended. Whole milliseconds, which is what redis counts in.
    pub ttl: Duration,
    /// How long after a renewal the next is sent.
    pub interval: Interval,
    /// How long after the acquisition renewals stop and the reservation counts as lost; `None` is never.
    pub max_hold: Option<Duration>,
}

impl Terms {
    /// True if a lease on these terms ends before a renewal is due.
    #[must_use]
    pub fn never_renews(&self) -> bool {
        self.interval.of(self.ttl).is_none()
    }
}

/// How long after a renewal the next is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interval {
    /// A third of the current ttl, so that two renewals may fail before the lease ends.
    Third,
    /// This long.
    Every(Duration),
    /// Never: the lease is not renewed.
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

/// How long a SET or an extend with this ttl is certain to hold, counted from the moment before it was sent.
///
/// Redis counts from later, when it runs the command, so the key outlives this. Two things are taken off the ttl: a
/// millisecond, because redis rounds to whole ones, and a thousandth, because the two clocks may run at different
/// speeds (NTP slews by 0.05 % at most: [adjtime(3)](https://man7.org/linux/man-pages/man3/adjtime.3.html)).
fn certain_for(ttl: Duration) -> Duration {
    let rounding = Duration::from_millis(1).min(ttl / 10);
    ttl.saturating_sub(ttl / 1000 + rounding)
}

/// What a lease needs at a given moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing yet.
    Nothing,
    /// A renewal is due.
    Renew,
    /// The key is to be looked at: somebody may have changed it.
    Look,
    /// The deadline has passed, and no renewal is known to have succeeded.
    Expired,
    /// `max_hold` is over.
    HeldTooLong,
}

/// Saturates at 584 years, which is longer than the clock counts.
fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// How one extend without a reply may have changed the key's end.
#[derive(Clone, Copy, Debug)]
pub struct PendingExtend {
    before: Moment,
    after: Moment,
}

/// One lease, on our clock. A process may have a hundred thousand, so a lease keeps only what is its own. Its interval
/// is passed in where it matters.
#[derive(Clone, Copy, Debug)]
pub struct Lease {
    /// The ttl that redis is asked for, in nanoseconds.
    ttl: u64,
    /// When `max_hold` ends; [`Moment::NEVER`] without one.
    last: Moment,
    /// When the last SET or extend that succeeded was about to be sent, or when [`Self::shorten`] was last called.
    /// Replies to older commands carry no news.
    renewed: Moment,
    /// Until when the lease is certain.
    end: Moment,
    /// When the next renewal is due; [`Moment::NEVER`] if none is.
    due: Moment,
    /// Until when redis may have the key: the latest end that was asked for and not refused.
    key_end: Moment,
}

impl Lease {
    /// A lease whose SET was sent after `sent` and succeeded.
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

    /// The caller wants a ttl of no more than this from `now` on. A longer ttl changes nothing here: it counts once
    /// redis has confirmed it. Only our lease ends sooner; redis keeps the key for as long as it was asked to before.
    pub fn shorten(&mut self, ttl: Duration, now: Moment) {
        if ttl < self.ttl() {
            self.ttl = nanoseconds(ttl);
            self.renewed = self.renewed.max(now);
            self.end = self.end.min(now.after(certain_for(ttl)));
        }
    }

    /// True if the lease ends before a renewal is due. That is as the caller asked, so its end is no alarm.
    #[must_use]
    pub fn never_renews(&self, interval: Interval) -> bool {
        interval.of(self.ttl()).is_none()
    }

    /// Redis has confirmed the ttl that the caller asked for, in the reply to a command sent after `sent`. A longer one
    /// that was asked for before, and that redis has confirmed meanwhile, is over with it.
    pub fn agree(&mut self, ttl: Duration, sent: Moment) {
        if sent >= self.renewed {
            self.ttl = nanoseconds(ttl);
            self.end = self.end.min(sent.after(certain_for(ttl)));
        }
    }

    /// An extend to `ttl`, sent after `sent`, has succeeded. It changes nothing if a newer reply is known (the replies
    /// of two connections come in any order). A shorter ttl does not take away what redis has confirmed for longer.
    pub fn renew(&mut self, interval: Interval, ttl: Duration, sent: Moment) {
        if sent >= self.renewed {
            self.renewed = sent;
            self.end = self.end.max(sent.after(certain_for(ttl))).min(self.last);
        }
        self.due = interval.of(self.ttl()).map_or(Moment::NEVER, |length| self.renewed.after(length));
    }

    /// An extend to `ttl` is sent now. Pass the result to [`Self::was_refused`] to take it back.
    pub fn ask(&mut self, ttl: Duration, now: Moment) -> PendingExtend {
        let before = self.key_end;
        self.key_end = before.max(now.after(ttl));
        PendingExtend { before, after: self.key_end }
    }

    /// Redis has refused an extend: it did not run, and will not.
    pub fn was_refused(&mut self, asking: PendingExtend) {
        if self.key_end == asking.after {
            self.key_end = asking.before;
        }
    }

    /// When the key has expired, whichever of the extends without a reply have run. An exception is one that is still
    /// buffered in a dead connection: it counts from when it runs.
    #[must_use]
    pub fn key_end(&self) -> Moment {
        self.key_end
    }

    /// Sets when the next renewal is due; `None` is not before this is called again. Used while a renewal is in flight
    /// or cannot be sent.
    pub fn postpone(&mut self, when: Option<Moment>) {
        self.due = when.unwrap_or(Moment::NEVER);
    }

    /// A renewal is due at `when` at the latest, also if one is in flight or the lease is not renewed otherwise.
    pub fn hasten(&mut self, when: Moment) {
        self.due = self.due.min(when);
    }

    /// True while no renewal is scheduled.
    #[must_use]
    pub fn is_postponed(&self) -> bool {
        self.due == Moment::NEVER
    }

    /// Until when the lease is certain.
    #[must_use]
    pub fn certain_until(&self) -> Moment {
        self.end
    }

    /// When the lease next needs attention; a past moment means at once.
    #[must_use]
    pub fn next(&self) -> Moment {
        self.due.min(self.end)
    }

    /// What the lease needs at `now`.
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
    fn an_interval_as_long_as_the_ttl_means_no_renewal() {
        for interval in [Interval::Never, Interval::Every(SECOND), Interval::Every(5 * SECOND)] {
            let lease = Lease::begin(terms(SECOND, interval, None), at(0.0));
            assert!(lease.never_renews(interval));
            assert_eq!(lease.next(), lease.certain_until());
        }
    }

    #[test]
    fn the_default_interval_is_a_third_of_the_current_ttl() {
        let mut lease = Lease::begin(terms(3 * SECOND, Interval::Third, None), at(0.0));
        assert_eq!(lease.next(), at(1.0));
        lease.agree(30 * SECOND, at(1.0));
        lease.renew(Interval::Third, 30 * SECOND, at(1.0));
        assert_eq!(lease.next(), at(11.0));
    }

    #[test]
    fn max_hold_ends_even_a_lease_that_was_just_renewed() {
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
    fn an_older_heartbeat_does_not_shorten_a_longer_confirmed_ttl() {
        let interval = Interval::Every(SECOND);
        let mut lease = Lease::begin(terms(3 * SECOND, interval, None), at(0.0));
        // The longer ttl was asked for at 0.9, and confirmed while the heartbeat's renewal of 1.0 was in flight.
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
        // The reply to a renewal that was in flight then.
        lease.renew(Interval::Every(20 * SECOND), 30 * SECOND, at(9.0));
        assert_eq!(lease.certain_until(), at(10.0).after(certain_for(2 * SECOND)));
        // A lease that would end sooner does not get longer by it.
        let mut ending = Lease::begin(terms(30 * SECOND, Interval::Never, None), at(0.0));
        ending.shorten(20 * SECOND, at(25.0));
        assert_eq!(ending.certain_until(), at(0.0).after(certain_for(30 * SECOND)));
    }

    #[test]
    fn of_two_ttls_that_were_asked_for_at_once_the_last_counts() {
        let interval = Interval::Every(SECOND / 4);
        let mut lease = Lease::begin(terms(SECOND, interval, None), at(0.0));
        for (ttl, asked) in [(30 * SECOND, at(0.1)), (SECOND, at(0.2))] {
            lease.shorten(ttl, asked);
        }
        for (ttl, sent) in [(30 * SECOND, at(0.1)), (SECOND, at(0.2))] {
            lease.agree(ttl, sent);
            lease.renew(interval, ttl, sent);
        }
        assert_eq!(lease.ttl(), SECOND);
        assert_eq!(lease.certain_until(), at(0.2).after(certain_for(SECOND)));
    }

    #[test]
    fn a_key_may_live_as_long_as_any_unrefused_extend_allows() {
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
