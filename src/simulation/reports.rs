//! A foreign change of a watched key is told at once, where nothing keeps the server's report of it from coming.

use std::collections::BTreeMap;

use super::invariants::Watched;
use super::server::data::Time;
use super::world::{World, now};
use crate::model::reservation::Phase;

/// From which age on a lease is certainly watched, beside the time of a look.
const WATCHED_FROM: Time = 1_300;

/// How long it takes at the most until a loss is found, beside the time of a look and a renewal.
const FOUND_WITHIN: Time = 200;

/// Looks at a key that is changed again within this time are spaced out.
const STREAK: Time = 5_000;

/// Since when the values of leases are gone, and when keys were last changed by others.
#[derive(Debug, Default)]
pub struct Reports {
    gone: BTreeMap<String, Time>,
    changed: BTreeMap<String, Time>,
    /// Changed more than once within [`STREAK`], the last time then.
    streaks: BTreeMap<String, Time>,
}

impl World {
    /// Somebody else changes a key now.
    pub fn is_changed_by_others(&mut self, key: &str) {
        let before = self.reports.changed.insert(key.to_owned(), now());
        if before.is_some_and(|before| before + STREAK > now()) {
            self.reports.streaks.insert(key.to_owned(), now());
        }
    }

    /// What is wrong with a lease whose key has another value: it still counts as held.
    pub fn not_found(&mut self, watched: &Watched) -> Option<String> {
        let Watched { key, value, process, .. } = watched;
        let is_there = self.nodes[self.home(key)].text_at(key).as_deref() == Some(value);
        if is_there || watched.reservation.phase() != Phase::Held {
            self.reports.gone.remove(value);
            return None;
        }
        let since = *self.reports.gone.entry(value.clone()).or_insert(now());
        if since == Time::MAX {
            return None;
        }
        let story = &self.story;
        let link = &self.processes[*process].link;
        let round_trip = 2 * (link.delay + link.jitter) + 1;
        let is_reported = !story.speaks_resp2
            && story.denied.is_empty()
            && self.processes[*process].runs()
            && watched.since + WATCHED_FROM + round_trip <= since
            && self.quiet_since(*process) + WATCHED_FROM + round_trip <= since
            && self.reports.streaks.get(key).is_none_or(|last| last + 2 * STREAK < since)
            && self.nodes.iter().all(|node| !node.is_stale_master);
        if !is_reported || now() - since <= FOUND_WITHIN + 4 * round_trip {
            return None;
        }
        self.reports.gone.insert(value.clone(), Time::MAX);
        let caller = watched.environment;
        Some(format!(
            "caller {caller} counts {key} by {value} as held, and it is gone for {} ms",
            now() - since
        ))
    }
}
