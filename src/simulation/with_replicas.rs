//! Locks that replicas must have (`min_replicas`): what must be true of them beside the rest.

use std::sync::Arc;

use super::caller::{Call, Kind, TOLERANCE};
use super::process::Link;
use super::server::data::Time;
use super::story::Story;
use super::world::World;
use crate::model::reservation::Reservation;

/// How late a replica may be at the most, beside the lag of the story.
const OF_THE_LAST: Time = 1 + 7 * 2;

/// How late a WAIT may find what has come.
const GRANULARITY: Time = 10;

/// As documented: a WAIT lasts for half of what is left of the time of a command, and half a second at the most.
const REDIS_LOOKS_EACH: Time = 110;
const LONGEST_WAIT: Time = 500;

/// How many round trips a first connection takes at the most.
const ROUND_TRIPS: Time = 8;

impl Story {
    /// True if a caller gets a lock while all is well: there are as many replicas as it wants, and soon enough.
    pub fn can_lock(&self, caller: usize) -> bool {
        let plan = &self.environments[caller];
        if plan.min_replicas == 0 {
            return true;
        }
        let limit = Time::try_from(plan.command_timeout().as_millis()).unwrap_or(Time::MAX);
        let waits = (limit.saturating_sub(REDIS_LOOKS_EACH) / 2).min(LONGEST_WAIT);
        // A lock has its share of the time that its first try has left.
        (plan.min_replicas as usize) < self.nodes && waits / 2 > self.lag + OF_THE_LAST + GRANULARITY
    }
}

impl World {
    /// A caller has got a lock that replicas must have: they have it, if nothing has happened to them since.
    pub fn check_replicas(&mut self, number: usize, asked: &Call, reservation: &Arc<Reservation>) {
        let wanted = self.story.environments[number].min_replicas as usize;
        let (key, value) = (reservation.key(), reservation.value());
        let home = self.home(key);
        if wanted == 0
            || self.replicas_broken >= asked.asked
            || self.nodes.iter().any(|node| node.is_stale_master)
            || self.nodes[home].text_at(key).as_ref() != Some(&value)
        {
            return;
        }
        let has = |node: &usize| *node != home && self.nodes[*node].has_had(key, &value);
        let count = (0..self.story.nodes).filter(has).count();
        if count < wanted {
            self.offence(format!(
                "caller {number} has got {key}, which {count} replicas have, and not {wanted}"
            ));
        }
    }

    /// That too few replicas have a key is said in time: a call has the time of a command for it, once it is connected.
    pub fn check_too_few(&mut self, number: usize, asked: &Call) {
        if asked.kind != Kind::Lock {
            return;
        }
        let one = &self.environments[number];
        let took = self.processes[one.process].ran() - asked.asked_ran;
        let limit = Time::try_from(one.settings.command_timeout.as_millis()).unwrap_or(Time::MAX);
        let Link { delay, jitter, .. } = self.processes[one.process].link;
        let connecting = ROUND_TRIPS * (2 * (delay + jitter) + 1);
        let was_well = self.quiet_since(one.process).max(one.blocked_until) < asked.asked;
        if was_well && took > limit + connecting + TOLERANCE {
            self.offence(format!(
                "caller {number} is told after {took} ms that too few replicas have {}",
                asked.key
            ));
        }
    }

    /// The master is about to be followed by a replica. What that lacks is excepted, but for locks that replicas must
    /// have, where it has most of all: one of them has such a lock, so this one has.
    pub fn look_at_successor(&mut self, from: usize, to: usize) {
        // After a restart of the master nobody knows who has most, until all have begun its history anew.
        let is_known = self.nodes[to].server.is_of_one_history_with(&self.nodes[from].server);
        let others = (0..self.story.nodes).filter(|node| *node != from);
        let most = others.map(|node| self.position_of(node, from)).max();
        let has_most = is_known && most.is_some_and(|most| most <= self.position_of(to, from));
        for key in self.story.keys() {
            let (here, there) = (self.nodes[from].text_at(&key), self.nodes[to].text_at(&key));
            let end = |node: usize, value: &String| self.nodes[node].end_of(&key, value);
            if here == there && here.as_ref().is_none_or(|value| end(from, value) == end(to, value)) {
                continue;
            }
            if let Some(value) = &here {
                let fits = |watched: &&super::invariants::Watched| {
                    watched.has(value)
                        && self.story.environments[watched.environment].min_replicas > 0
                        && !watched.is_excused()
                        && watched.asked > self.replicas_broken
                };
                let lacks = !self.nodes[to].has_had(&key, value);
                if has_most
                    && lacks
                    && let Some(watched) = self.watched.iter().find(fits)
                {
                    let caller = watched.environment;
                    self.offence(format!(
                        "caller {caller} holds {key} by {value}, which the replica that has most does not have"
                    ));
                }
            }
            self.excuse(from, &key);
            self.excuse(to, &key);
        }
    }
}
