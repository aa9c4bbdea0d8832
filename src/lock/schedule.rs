//! The heartbeat's schedule: which reservation needs attention next. Time is passed in; nothing sleeps here.

use std::collections::VecDeque;

use crate::time::clock::Moment;

/// The most entries in a run. So few that inserting in the middle costs next to nothing.
const MAX_RUN: usize = 256;

/// When a reservation needs attention, and its id. Ordered by time.
type Entry = (Moment, u64);

/// Reservations by the moment at which they need attention. Each has one entry.
///
/// An ordered list and not a timer wheel: it is exact to the nanosecond, has no tick to choose, and moves an entry in
/// 0.1 µs among 100,000 (`cargo bench`). The list is cut into runs. Most entries are added at the end, where the nodes
/// of a B-tree would stay half empty.
#[derive(Debug, Default)]
pub struct Schedule {
    /// No run is empty. All entries of one are before those of the next.
    runs: VecDeque<Vec<Entry>>,
}

impl Schedule {
    /// Adds a reservation. True if it is now the first: then the heartbeat must wake earlier.
    pub fn insert(&mut self, when: Moment, id: u64) -> bool {
        let entry = (when, id);
        if self.runs.is_empty() {
            self.runs.push_back(Vec::new());
        }
        let mut run = self.run_of(entry);
        let mut position = self.runs[run].partition_point(|other| *other < entry);
        if self.runs[run].len() == MAX_RUN {
            let middle = if position == MAX_RUN { MAX_RUN } else { MAX_RUN / 2 };
            let rest = self.runs[run].split_off(middle);
            self.runs.insert(run + 1, rest);
            if position >= middle {
                (run, position) = (run + 1, position - middle);
            }
        }
        self.runs[run].insert(position, entry);
        (run, position) == (0, 0)
    }

    /// Removes a reservation that was inserted for `when`.
    pub fn remove(&mut self, when: Moment, id: u64) {
        let index = self.run_of((when, id));
        let Some(run) = self.runs.get_mut(index) else { return };
        if let Ok(position) = run.binary_search(&(when, id)) {
            run.remove(position);
        }
        if run.is_empty() {
            self.runs.remove(index);
        } else if run.len() < run.capacity() / 4 {
            // Free the memory of the entries that have left.
            run.shrink_to(run.capacity() / 2);
        }
    }

    /// Removes all that are due at `now`, and returns them, earliest first.
    pub fn take_due(&mut self, now: Moment) -> Vec<u64> {
        let mut due = Vec::new();
        while let Some(run) = self.runs.front_mut() {
            let count = run.partition_point(|(when, _)| *when <= now);
            due.extend(run.drain(..count).map(|(_, id)| id));
            if !run.is_empty() {
                break;
            }
            self.runs.pop_front();
        }
        due
    }

    /// When the first entry is due.
    #[must_use]
    pub fn next(&self) -> Option<Moment> {
        let (when, _) = self.runs.front()?.first()?;
        Some(*when)
    }

    /// The index of the run that has this entry, or that it belongs into: the last run that begins at or before it.
    fn run_of(&self, entry: Entry) -> usize {
        self.runs.partition_point(|run| run.first() <= Some(&entry)).saturating_sub(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn at(milliseconds: u64) -> Moment {
        Moment::ZERO.after(Duration::from_millis(milliseconds))
    }

    #[test]
    fn what_is_due_comes_out_in_order_and_once() {
        let mut schedule = Schedule::default();
        assert!(schedule.insert(at(30), 3));
        assert!(schedule.insert(at(10), 1));
        assert!(!schedule.insert(at(20), 2));
        assert_eq!(schedule.next(), Some(at(10)));
        assert_eq!(schedule.take_due(at(20)), [1, 2]);
        assert_eq!(schedule.take_due(at(20)), [] as [u64; 0]);
        assert_eq!(schedule.next(), Some(at(30)));
    }

    #[test]
    fn a_removed_entry_never_comes_out() {
        let mut schedule = Schedule::default();
        schedule.insert(at(10), 1);
        schedule.insert(at(10), 2);
        schedule.remove(at(10), 1);
        assert_eq!(schedule.take_due(at(10)), [2]);
        assert_eq!(schedule.next(), None);
    }

    #[test]
    fn entries_added_in_any_order_come_out_in_order() {
        let mut schedule = Schedule::default();
        // Each number below 10,007, a prime, once.
        let shuffled = (1..10_007).map(|step| step * 4_321 % 10_007);
        let mut first = u64::MAX;
        for number in shuffled.clone() {
            assert_eq!(schedule.insert(at(number / 3), number), number < first, "{number}");
            first = first.min(number);
        }
        for number in shuffled.filter(|number| number % 2 == 0) {
            schedule.remove(at(number / 3), number);
        }
        let due: Vec<u64> = (0..40).flat_map(|part| schedule.take_due(at(part * 100))).collect();
        assert_eq!(due, (1..10_007).step_by(2).collect::<Vec<u64>>());
        assert_eq!(schedule.next(), None);
    }
}
