//! What is known of the watches on held keys: which leases have one, when each key is looked at next, and whether watching
//! is worth its price. Pure state; [`super::watch`] sends the commands.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::hash::Hasher;
use std::rc::Rc;
use std::time::Duration;

use rustc_hash::FxHasher;
use tokio::time::Instant;

use crate::time::clock::Moment;
use crate::time::pace::{Pace, Quota};

/// A lease is watched from this age on. So a lock that is released sooner costs no command more.
pub const MIN_AGE: Duration = Duration::from_secs(1);

/// Above so many renewals a second on one connection nothing is watched: a watch adds two commands to each renewal.
const MAX_RENEWALS_A_SECOND: u32 = 1_000;

/// Below so many it is taken up again.
const FEW_RENEWALS_A_SECOND: u32 = 500;

/// How many messages a second are followed by a look at once. The looks for all others are spread out.
pub const MAX_LOOKS_A_SECOND: u32 = 1_000;

/// Looks at one key that follow one another within this time are a streak: they are spaced out.
const STREAK: Duration = Duration::from_secs(1);

/// The longest pause between two looks of a streak.
const MAX_PAUSE: Duration = Duration::from_secs(1);

/// The watch of one lease.
#[derive(Clone, Copy, Debug)]
pub struct Watch {
    /// When the key is looked at next; [`Moment::NEVER`] if nothing asks for it.
    pub next: Moment,
    /// A look is in flight, or is sent in this turn.
    pub is_looking: bool,
    /// How many renewals are in flight. Each is followed by a look.
    pub renewals: u8,
    /// The server has reported a change since the last look was sent.
    pub is_outdated: bool,
    /// How many looks have followed one another closely.
    streak: u8,
    /// When the last look was sent that followed no renewal.
    last: Moment,
    /// From when on the lease is old enough.
    old: Moment,
}

impl Watch {
    /// Of a lease that begins now: it is looked at once it is old enough.
    #[must_use]
    pub fn begin(now: Moment) -> Self {
        let old = now.after(MIN_AGE);
        Self {
            next: old,
            is_looking: false,
            renewals: 0,
            is_outdated: false,
            streak: 0,
            last: Moment::ZERO,
            old,
        }
    }

    /// True until the lease is old enough.
    #[must_use]
    pub fn is_young(&self, now: Moment) -> bool {
        now < self.old
    }

    /// A look is sent now. One that follows a renewal belongs to no streak.
    pub fn look(&mut self, now: Moment, follows_renewal: bool) {
        if !follows_renewal {
            self.follow(now);
        }
        self.next = Moment::NEVER;
        (self.is_looking, self.is_outdated) = (true, false);
    }

    /// A look belongs to the streak of the last one, if that was not long ago.
    pub fn follow(&mut self, now: Moment) {
        let pause = self.pause();
        let is_close = self.last.after(STREAK + pause + pause) > now;
        self.streak = if is_close { self.streak.saturating_add(1) } else { 0 };
        self.last = now;
    }

    /// How long to wait before the next look: nothing for the first two of a streak. Somebody may change the key a
    /// thousand times a second, and a full tracking table makes each look end the watch of another key.
    #[must_use]
    pub fn pause(&self) -> Duration {
        let doublings = u32::from(self.streak).checked_sub(2);
        doublings.map_or(Duration::ZERO, |power| Duration::from_millis(1 << power.min(10)).min(MAX_PAUSE))
    }
}

/// The watches of one endpoint.
#[derive(Debug, Default)]
pub struct Watches {
    /// The leases with a watch: the hash of the key, and the reservation's id. Two keys with one hash cost a look too
    /// many.
    leases: RefCell<BTreeSet<(u64, u64)>>,
    renewals: Cell<Renewals>,
    /// Leases that were renewed in this turn, and will be looked at.
    pub renewed: RefCell<Vec<u64>>,
    looks: Quota,
    /// Limits how often all keys are looked at.
    pub pace: Rc<Pace>,
}

/// How many renewals were sent since a moment.
#[derive(Clone, Copy, Debug, Default)]
struct Renewals {
    since: Option<Instant>,
    count: u32,
    are_many: bool,
}

impl Watches {
    /// This lease has a watch.
    pub fn insert(&self, key: &str, id: u64) {
        self.leases.borrow_mut().insert((hash_of(key), id));
    }

    /// It has none any more.
    pub fn remove(&self, key: &str, id: u64) {
        self.leases.borrow_mut().remove(&(hash_of(key), id));
    }

    /// The leases with a watch on this key.
    #[must_use]
    pub fn of(&self, key: &str) -> Vec<u64> {
        let hash = hash_of(key);
        self.leases.borrow().range((hash, 0)..=(hash, u64::MAX)).map(|&(_, id)| id).collect()
    }

    /// All leases with a watch.
    #[must_use]
    pub fn all(&self) -> Vec<u64> {
        self.leases.borrow().iter().map(|&(_, id)| id).collect()
    }

    /// So many renewals are sent now. False if they are too many for watching.
    pub fn renewing(&self, count: usize) -> bool {
        let mut renewals = self.renewals.get();
        let age = renewals.since.map_or(Duration::MAX, |since| since.elapsed());
        if age >= Duration::from_secs(1) {
            // After a pause the rate was low.
            let was_few = renewals.count < FEW_RENEWALS_A_SECOND || age >= Duration::from_secs(2);
            let are_many = renewals.are_many && !was_few;
            renewals = Renewals { since: Some(Instant::now()), count: 0, are_many };
        }
        renewals.count = renewals.count.saturating_add(u32::try_from(count).unwrap_or(u32::MAX));
        renewals.are_many |= renewals.count > MAX_RENEWALS_A_SECOND;
        self.renewals.set(renewals);
        !renewals.are_many
    }

    /// True while there are too many renewals for watching.
    #[must_use]
    pub fn is_off(&self) -> bool {
        !self.renewing(0)
    }

    /// True if a message may be followed by a look at once.
    pub fn may_look(&self) -> bool {
        self.looks.take(MAX_LOOKS_A_SECOND)
    }
}

fn hash_of(key: &str) -> u64 {
    let mut hasher = FxHasher::default();
    hasher.write(key.as_bytes());
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_leases_of_a_key_are_found_and_forgotten() {
        let watches = Watches::default();
        for (key, id) in [("a", 1), ("b", 2), ("a", 3)] {
            watches.insert(key, id);
        }
        assert_eq!((watches.of("a"), watches.of("b"), watches.of("c")), (vec![1, 3], vec![2], vec![]));
        watches.remove("a", 1);
        watches.remove("a", 1);
        assert_eq!((watches.of("a"), watches.all().len()), (vec![3], 2));
    }

    #[test]
    fn looks_that_follow_closely_are_spaced_out_and_a_pause_ends_that() {
        let mut watch = Watch::begin(Moment::ZERO);
        let mut now = Moment::ZERO.after(MIN_AGE);
        assert!(watch.is_young(Moment::ZERO) && !watch.is_young(now));
        let mut pauses = Vec::new();
        for _ in 0..14 {
            watch.look(now, false);
            pauses.push(u64::try_from(watch.pause().as_millis()).unwrap());
            now = now.after(watch.pause());
        }
        assert_eq!(pauses, [0, 0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000, 1000]);
        watch.look(now, true);
        assert_eq!(watch.pause(), MAX_PAUSE, "a renewal's look changes nothing");
        watch.look(now.after(Duration::from_secs(4)), false);
        assert_eq!(watch.pause(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn many_renewals_turn_the_watches_off_and_few_turn_them_on_again() {
        let watches = Watches::default();
        assert!(!watches.is_off());
        assert!(watches.renewing(1_000));
        assert!(!watches.renewing(1), "1,001 in a second");
        for (renewals, is_off) in [(600, true), (499, true), (700, false), (1_001, true)] {
            tokio::time::advance(Duration::from_secs(1)).await;
            watches.renewing(renewals);
            assert_eq!(watches.is_off(), is_off, "{renewals}");
        }
        tokio::time::advance(Duration::from_secs(2)).await;
        assert!(!watches.is_off(), "nothing was renewed for long");
    }
}
