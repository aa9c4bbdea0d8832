//! Gives the reservations of an environment's callers small numbers. A number crosses the border much more cheaply than
//! an object, which would cost more than the lock.

use std::sync::Arc;

use slab::Slab;

use crate::model::reservation::Reservation;

/// The reservations of one environment, by number.
#[derive(Default)]
pub struct Handles {
    /// A reservation without a number stays in its last entry for as long as that number is in `retired`.
    entries: Slab<Arc<Reservation>>,
    /// Numbers that stand for nothing any more, but that JavaScript may still use.
    retired: Vec<u32>,
}

impl Handles {
    /// Adds a reservation and gives it a number.
    pub fn add(&mut self, reservation: Arc<Reservation>) -> u32 {
        let entry = self.entries.vacant_entry();
        // Memory has no room for 2^32 reservations.
        let number = u32::try_from(entry.key()).unwrap_or(u32::MAX);
        reservation.set_handle(Some(number));
        entry.insert(reservation);
        number
    }

    /// The reservation of a number.
    #[must_use]
    pub fn get(&self, number: u32) -> Option<&Arc<Reservation>> {
        self.last_at(number).filter(|found| found.handle() == Some(number))
    }

    /// The same. Also finds a reservation that was removed, until [`Self::reuse`].
    #[must_use]
    pub fn last_at(&self, number: u32) -> Option<&Arc<Reservation>> {
        self.entries.get(number as usize)
    }

    /// The number of a reservation, if it has one.
    #[must_use]
    pub fn number_of(&self, reservation: &Arc<Reservation>) -> Option<u32> {
        reservation
            .handle()
            .filter(|&number| self.get(number).is_some_and(|found| Arc::ptr_eq(found, reservation)))
    }

    /// Takes a reservation's number away. The number is not given to another before [`Self::reuse`].
    pub fn remove(&mut self, reservation: &Arc<Reservation>) {
        if let Some(number) = self.number_of(reservation) {
            reservation.set_handle(None);
            self.retired.push(number);
        }
    }

    /// JavaScript was told of every removal and uses those numbers no more: they may be given again.
    pub fn reuse(&mut self) {
        for number in self.retired.drain(..) {
            self.entries.remove(number as usize);
        }
    }

    /// JavaScript was not told of every removal and may still use those numbers: they are never given again.
    pub fn abandon(&mut self) {
        self.retired.clear();
    }

    /// Removes everything.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::support::reservation;

    #[test]
    fn a_number_is_not_given_again_before_its_end_was_told() {
        let mut handles = Handles::default();
        let (first, second, third) = (reservation("a"), reservation("b"), reservation("c"));
        let number = handles.add(Arc::clone(&first));
        assert_eq!(handles.number_of(&first), Some(number));
        handles.remove(&first);
        handles.remove(&first);
        assert!(handles.get(number).is_none() && handles.number_of(&first).is_none());
        assert!(handles.last_at(number).is_some_and(|found| Arc::ptr_eq(found, &first)));
        assert_ne!(handles.add(Arc::clone(&second)), number);
        handles.reuse();
        assert!(handles.last_at(number).is_none());
        assert_eq!(handles.add(Arc::clone(&third)), number);
        assert_eq!(handles.number_of(&first), None, "it is another's now");
        assert!(handles.get(number).is_some_and(|found| Arc::ptr_eq(found, &third)));
    }

    #[test]
    fn a_number_whose_end_could_not_be_told_is_never_given_again() {
        let mut handles = Handles::default();
        let first = reservation("a");
        let number = handles.add(Arc::clone(&first));
        handles.remove(&first);
        handles.abandon();
        handles.reuse();
        assert!(handles.get(number).is_none());
        assert_ne!(handles.add(reservation("b")), number);
    }
}
