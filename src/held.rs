//! A table of what is held, by numbers that lead straight to their places: looked into several times an operation, it
//! hashes nothing and has no room to spare.

/// What has a number of its own.
pub trait Numbered {
    /// The number that [`Held::insert`] gave it.
    fn number(&self) -> u64;
}

/// The table.
#[derive(Debug)]
pub struct Held<T> {
    places: Vec<Option<T>>,
    vacant: Vec<u32>,
    inserted: u64,
}

impl<T> Default for Held<T> {
    fn default() -> Self {
        Self { places: Vec::new(), vacant: Vec::new(), inserted: 0 }
    }
}

impl<T: Numbered> Held<T> {
    /// Puts in what is made with the number that it gets. A number comes back after 2^32 others at the earliest.
    pub fn insert(&mut self, make: impl FnOnce(u64) -> T) -> &mut T {
        let place = self.vacant.pop().unwrap_or_else(|| {
            self.places.push(None);
            // 2^32 of them are more than memory has room for.
            u32::try_from(self.places.len() - 1).unwrap_or(u32::MAX)
        });
        self.inserted += 1;
        let number = (self.inserted << 32) | u64::from(place);
        self.places[place as usize].insert(make(number))
    }

    /// What has this number.
    pub fn get_mut(&mut self, number: u64) -> Option<&mut T> {
        let there = self.places.get_mut(place_of(number))?.as_mut()?;
        (there.number() == number).then_some(there)
    }

    /// Takes it out.
    pub fn remove(&mut self, number: u64) -> Option<T> {
        self.get_mut(number)?;
        let place = place_of(number);
        // It was made from a place's number.
        self.vacant.extend(u32::try_from(place));
        let taken = self.places[place].take();
        if self.is_empty() {
            // Whatever many there were, there is no need for their places.
            self.places = Vec::new();
            self.vacant = Vec::new();
        }
        taken
    }

    /// True if there is nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.places.len() == self.vacant.len()
    }

    /// All of it.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.places.iter().flatten()
    }
}

#[allow(clippy::cast_possible_truncation, reason = "the lower half of it is the place")]
fn place_of(number: u64) -> usize {
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
    fn a_number_stands_for_one_thing_and_for_nothing_after_it() {
        let mut held = Held::default();
        assert!(held.is_empty());
        let numbers = [0; 3].map(|_| *held.insert(|number| number));
        assert_eq!(held.remove(numbers[1]), Some(numbers[1]));
        assert_eq!(held.remove(numbers[1]), None);
        let other = *held.insert(|number| number);
        assert_eq!(place_of(other), place_of(numbers[1]), "there is room again");
        assert!(held.get_mut(numbers[1]).is_none());
        assert_eq!(held.get_mut(other).copied(), Some(other));
        assert_eq!(held.iter().count(), 3);
        for number in [numbers[0], other, numbers[2]] {
            assert!(held.remove(number).is_some());
        }
        assert!(held.is_empty());
    }
}
