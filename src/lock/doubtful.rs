//! Reservations that may be lost: their last renewal failed, or the connection is new. Says how often each may be
//! retried.

use std::time::Duration;

use rustc_hash::FxHashMap;

/// The weight of a lease of one nanosecond. Large enough that the longest ttl has a weight above zero; the sum of
/// millions of weights fits its type.
const HEAVIEST: u64 = u64::MAX;

/// The reservations, each with a weight. The shorter the ttl, the larger its share of all retries: any number of leases
/// of an hour must not delay the next try for a lease of a second.
#[derive(Debug, Default)]
pub struct Doubtful {
    weights: FxHashMap<u64, u64>,
    sum: u128,
}

impl Doubtful {
    /// Adds a reservation, with its ttl. True if it was not there.
    pub fn insert(&mut self, id: u64, ttl: Duration) -> bool {
        let weight = weight_of(ttl);
        let former = self.weights.insert(id, weight);
        self.sum = self.sum + u128::from(weight) - u128::from(former.unwrap_or_default());
        former.is_none()
    }

    /// Removes a reservation. True if it was there.
    pub fn remove(&mut self, id: u64) -> bool {
        let Some(weight) = self.weights.remove(&id) else { return false };
        self.sum -= u128::from(weight);
        true
    }

    /// True if no reservation is doubtful.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.weights.is_empty()
    }

    /// The ids of the reservations.
    pub fn ids(&self) -> impl Iterator<Item = u64> {
        self.weights.keys().copied()
    }

    /// How many leases of this ttl would weigh as much as all of these.
    #[must_use]
    pub fn count_for(&self, ttl: Duration) -> u32 {
        u32::try_from(self.sum / u128::from(weight_of(ttl))).unwrap_or(u32::MAX)
    }
}

fn weight_of(ttl: Duration) -> u64 {
    HEAVIEST / u64::try_from(ttl.as_nanos()).unwrap_or(u64::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leases_of_one_ttl_count_alike_and_long_ones_little_for_a_short_one() {
        let (short, long) = (Duration::from_secs(1), Duration::from_secs(1000));
        let mut doubtful = Doubtful::default();
        assert_eq!(doubtful.count_for(short), 0);
        for id in 0..5500 {
            doubtful.insert(id, long);
        }
        assert_eq!((doubtful.count_for(long), doubtful.count_for(short)), (5500, 5));
        doubtful.insert(0, short);
        assert_eq!((doubtful.count_for(long), doubtful.count_for(short)), (6499, 6));
        for id in 0..5500 {
            assert!(doubtful.remove(id));
        }
        assert!(!doubtful.remove(0));
        assert_eq!((doubtful.count_for(long), doubtful.ids().count()), (0, 0));
        doubtful.insert(0, Duration::MAX);
        assert_eq!(doubtful.count_for(Duration::MAX), 1);
    }
}
