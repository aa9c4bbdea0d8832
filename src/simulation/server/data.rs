//! What is in the server: keys, their values, and when they end.

use std::collections::{BTreeMap, BTreeSet};

/// Milliseconds of the server's own clock.
pub type Time = u64;

/// A database's number, and a key in it.
pub type Place = (u32, Vec<u8>);

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    Text(Vec<u8>),
    /// Whatever is no string.
    List(Vec<Vec<u8>>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub value: Value,
    pub expires: Option<Time>,
}

/// All keys, and those that end in the order in which they do.
#[derive(Clone, Debug, Default)]
pub struct Data {
    entries: BTreeMap<Place, Entry>,
    ends: BTreeSet<(Time, Place)>,
}

impl Data {
    /// What is there, also where its time is over.
    pub fn get(&self, place: &Place) -> Option<&Entry> {
        self.entries.get(place)
    }

    pub fn put(&mut self, place: Place, entry: Entry) {
        self.remove(&place);
        if let Some(end) = entry.expires {
            self.ends.insert((end, place.clone()));
        }
        self.entries.insert(place, entry);
    }

    pub fn remove(&mut self, place: &Place) -> Option<Entry> {
        let entry = self.entries.remove(place)?;
        if let Some(end) = entry.expires {
            self.ends.remove(&(end, place.clone()));
        }
        Some(entry)
    }

    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// The first key to end, and when.
    pub fn first_end(&self) -> Option<&(Time, Place)> {
        self.ends.first()
    }

    pub fn len_of(&self, database: u32) -> usize {
        self.entries.keys().filter(|(of, _)| *of == database).count()
    }
}

/// A key is there in the very millisecond in which it ends.
pub fn is_over(entry: &Entry, now: Time) -> bool {
    entry.expires.is_some_and(|end| now > end)
}
