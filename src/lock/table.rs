//! A table of reservations by id. The id contains the index, so the several look-ups of each operation hash nothing.

use slab::Slab;

/// Something that knows its own number in a [`Table`].
pub trait Numbered {
    /// The number that [`Table::insert`] gave it.
    fn number(&self) -> u64;
}

/// The table. The lower half of a number is an index; the upper half distinguishes the entries that have had this
/// index.
#[derive(Debug)]
pub struct Table<T> {
    entries: Slab<T>,
    inserted: u64,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { entries: Slab::new(), inserted: 0 }
    }
}

impl<T: Numbered> Table<T> {
    /// Inserts what `make` returns for its number. A number is reused after 2^32 insertions at the earliest.
    pub fn insert(&mut self, make: impl FnOnce(u64) -> T) -> &mut T {
        self.inserted += 1;
        let vacant = self.entries.vacant_entry();
        let number = (self.inserted << 32) | vacant.key() as u64;
        vacant.insert(make(number))
    }

    /// The entry of a number.
    pub fn get_mut(&mut self, number: u64) -> Option<&mut T> {
        self.entries.get_mut(index_of(number)).filter(|entry| entry.number() == number)
    }

    /// Removes an entry.
    pub fn remove(&mut self, number: u64) -> Option<T> {
        self.get_mut(number)?;
        let taken = self.entries.try_remove(index_of(number));
        if self.entries.is_empty() {
            // Free the memory: there may have been very many.
            self.entries = Slab::new();
        }
        taken
    }

    /// True if the table is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How many entries there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// All entries.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.entries.iter().map(|(_, entry)| entry)
    }
}

#[allow(clippy::cast_possible_truncation, reason = "the lower half of it is the place")]
fn index_of(number: u64) -> usize {
    number as u32 as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Numbered for u64 {
        fn number(&self) -> u64 {
            *self
        }
    }

    #[test]
    fn a_number_is_not_reused_for_another_entry() {
        let mut held = Table::default();
        assert!(held.is_empty());
        let numbers = [0; 3].map(|_| *held.insert(|number| number));
        assert_eq!(held.remove(numbers[1]), Some(numbers[1]));
        assert_eq!(held.remove(numbers[1]), None);
        let other = *held.insert(|number| number);
        assert_eq!(index_of(other), index_of(numbers[1]), "there is room again");
        assert!(held.get_mut(numbers[1]).is_none());
        assert_eq!(held.get_mut(other).copied(), Some(other));
        assert_eq!(held.iter().count(), 3);
        for number in [numbers[0], other, numbers[2]] {
            assert!(held.remove(number).is_some());
        }
        assert!(held.is_empty());
    }
}
