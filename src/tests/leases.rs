//! The arithmetic of a lease against a key that lives by redis's rules, for any times, ttls and orders of replies: never
//! is the lease certain for longer than the key lives.

use std::time::Duration;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use crate::model::lease::{Interval, Lease, Terms};
use crate::time::clock::Moment;

const MILLISECOND: u64 = 1_000_000;

/// What happens to the lease, some time after what happened before. Times are in nanoseconds of redis's clock.
#[derive(Clone, Debug)]
enum Event {
    /// An extend is sent; redis runs it and its reply comes, each so much later. `None`: never.
    Extend { ttl: u64, runs_after: Option<u64>, answered_after: Option<u64>, by_caller: bool },
    /// The caller wants a shorter ttl.
    Shorten { ttl: u64 },
}

/// Short times are as likely as long ones: up to two days.
fn any_time() -> impl Strategy<Value = u64> {
    (0_u32..47, any::<u64>()).prop_map(|(bits, random)| random & ((1 << bits) - 1) | 1)
}

fn any_event() -> impl Strategy<Value = Event> {
    let extend =
        (any_time(), option::weighted(0.9, any_time()), option::weighted(0.8, any_time()), any::<bool>());
    let extend = extend.prop_map(|(ttl, runs_after, answered_after, by_caller)| Event::Extend {
        ttl,
        runs_after,
        answered_after,
        by_caller,
    });
    prop_oneof![4 => extend, 1 => any_time().prop_map(|ttl| Event::Shorten { ttl })]
}

fn any_interval() -> impl Strategy<Value = Interval> {
    let every = any_time().prop_map(|time| Interval::Every(Duration::from_nanos(time)));
    prop_oneof![Just(Interval::Third), Just(Interval::Never), every]
}

/// A key as redis keeps it: its clock has whole milliseconds, and the key is there in the very one in which it ends
/// (src/simulation/server/data.rs, which is held to real servers).
struct Key {
    end: u64,
}

impl Key {
    fn run(&mut self, ttl: Duration, at: u64, is_set: bool) {
        let ttl = u64::try_from(ttl.as_millis()).unwrap().max(1) * MILLISECOND;
        let is_there = is_set || at < self.end;
        if is_there {
            self.end = self.end.max(at / MILLISECOND * MILLISECOND + ttl + MILLISECOND);
        }
    }
}

/// What is still to come of an extend: redis runs it, then the reply.
struct InFlight {
    ttl: Duration,
    sent: Moment,
    runs: Option<u64>,
    answered: Option<u64>,
    /// Whether redis found the key; known once it ran.
    succeeds: bool,
    by_caller: bool,
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 50_000, ..ProptestConfig::default() })]

    #[test]
    fn a_lease_is_never_certain_beyond_the_life_of_its_key(
        ttl in any_time(),
        runs_after in any_time(),
        interval in any_interval(),
        max_hold in option::of(any_time()),
        parts_per_million in -1_000_i64..=1_000,
        offset in 1_u64..1 << 62,
        events in vec((any_time(), any_event()), 0..30),
    ) {
        // Our clock, which runs a little fast or slow, at a moment of redis's.
        let ours = |time: u64| {
            let drift = i128::from(time) * i128::from(parts_per_million) / 1_000_000;
            Moment::from_bits(u64::try_from(i128::from(offset) + i128::from(time) + drift).unwrap())
        };
        let whole = |ttl: u64| Duration::from_millis((ttl / MILLISECOND).max(1));
        let terms = Terms { ttl: whole(ttl), interval, max_hold: max_hold.map(Duration::from_nanos) };
        let mut key = Key { end: 0 };
        key.run(terms.ttl, runs_after, true);
        let mut lease = Lease::begin(terms, ours(0));
        let mut in_flight: Vec<InFlight> = Vec::new();
        let mut now = runs_after;
        for (pause, event) in events {
            now += pause;
            // Redis runs what has come, in the order in which it came; then the replies come.
            let mut runs: Vec<&mut InFlight> =
                in_flight.iter_mut().filter(|one| one.runs.is_some_and(|at| at <= now)).collect();
            runs.sort_by_key(|one| one.runs);
            for one in runs {
                let at = one.runs.take().unwrap();
                one.succeeds = at < key.end;
                key.run(one.ttl, at, false);
            }
            for one in in_flight.extract_if(.., |one| one.answered.is_some_and(|at| at <= now)) {
                if one.succeeds {
                    if one.by_caller {
                        lease.agree(one.ttl, one.sent);
                    }
                    lease.renew(interval, one.ttl, one.sent);
                }
                // Who reads the clock now is not told more than redis keeps.
                prop_assert!(lease.certain_until() <= ours(key.end), "{:?} {}", lease, key.end);
            }
            match event {
                Event::Extend { ttl, runs_after, answered_after, by_caller } => {
                    let (ttl, runs) = (whole(ttl), runs_after.map(|after| now + after));
                    let answered = runs.and_then(|runs| Some(runs + answered_after?));
                    lease.ask(ttl, ours(now));
                    in_flight.push(InFlight { ttl, sent: ours(now), runs, answered, succeeds: false, by_caller });
                }
                Event::Shorten { ttl } => {
                    let before = lease.certain_until();
                    lease.shorten(whole(ttl), ours(now));
                    prop_assert!(lease.certain_until() <= before);
                }
            }
            prop_assert!(lease.certain_until() <= ours(key.end), "{:?} {}", lease, key.end);
            prop_assert!(max_hold.is_none_or(|longest| lease.certain_until() <= ours(0).after(Duration::from_nanos(longest))));
            let _ = (lease.step(ours(now)), lease.next());
        }
    }

    #[test]
    fn no_time_is_too_long(
        ttl in any::<u64>(),
        every in any::<u64>(),
        hold in any::<u64>(),
        bits in any::<u64>(),
    ) {
        let longest = |time| Duration::new(time, 999_999_999);
        let moment = Moment::from_bits(bits);
        for interval in [Interval::Third, Interval::Never, Interval::Every(longest(every))] {
            let terms = Terms { ttl: longest(ttl), interval, max_hold: Some(longest(hold)) };
            let mut lease = Lease::begin(terms, moment);
            prop_assert!(lease.certain_until() >= moment);
            let asking = lease.ask(longest(every), moment);
            lease.was_refused(asking);
            lease.shorten(longest(hold), moment);
            lease.agree(longest(every), moment);
            lease.renew(interval, longest(every), moment);
            let _ = (lease.step(moment), lease.next(), lease.key_end(), lease.never_renews(interval));
        }
    }
}
