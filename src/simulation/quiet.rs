//! When nothing is wrong: then no lease is lost that is to be renewed.

use std::collections::BTreeMap;

use super::invariants::Watched;
use super::network::GIVES_UP;
use super::replicas::settles;
use super::server::data::Time;
use super::story::Action;
use super::world::{World, now};
use crate::model::lease::Interval;

/// How long it takes at the most, when all is well again, until what is held is renewed: a command or a handshake that
/// gets no answer any more has to time out first, and then a connection is made.
const RECOVERY: Time = 7_000;

/// How long it takes at the most to find that a connection is dead of which nobody was told.
const DEAD: Time = 12_000;

/// How long a key may be free that somebody waits for, beside the time of a command: waiters poll once a second, if
/// nothing tells them.
const MAY_BE_FREE: Time = 1_300;

/// The same after a connection has broken, and everybody knows it.
const SOON: Time = 1_500;

/// How long a WAIT holds up what is behind it, as documented: half a second, and as long as redis takes to find that it
/// is over.
pub const HELD_UP: Time = 500 + 110;

/// Until when something is wrong, or may not have been mended, and since when keys are free.
#[derive(Debug, Default)]
pub struct Quiet {
    servers: Time,
    processes: BTreeMap<usize, Time>,
    free: BTreeMap<String, Time>,
}

impl World {
    /// Something goes wrong.
    pub fn disturb(&mut self, action: &Action) {
        let (process, lasts) = match *action {
            Action::Stop { process, time }
            | Action::Stall { process, time, .. }
            | Action::Slow { process, time, .. }
            | Action::Unreachable { process, time } => (Some(process), time + RECOVERY),
            Action::Cut { process, is_seen: true, .. } => (Some(process), SOON),
            // Of the connections to a cluster's nodes one may not be used for long.
            Action::Cut { process, .. } if self.cluster.is_some() => (Some(process), GIVES_UP + RECOVERY),
            Action::Cut { process, .. } => (Some(process), DEAD + RECOVERY),
            Action::Hang { time, .. }
            | Action::Crash { time, .. }
            | Action::Trouble { time, .. }
            | Action::LockOut { time, .. }
            | Action::Full { time, .. } => (None, time + RECOVERY),
            Action::FailOver { learns, .. } => (None, settles(learns) + RECOVERY),
            Action::Detach { time, .. } | Action::Succeed { time, .. } | Action::Nameless { time } => {
                (None, time + RECOVERY)
            }
            Action::KillClients | Action::FlushScripts => (None, SOON),
            Action::Take { ref key, .. } => return self.taken(&format!("reservation-{key}")),
            _ => return,
        };
        let lasts = lasts + self.story.more_to_connect();
        let until = match process {
            Some(process) => self.quiet.processes.entry(process).or_default(),
            None => &mut self.quiet.servers,
        };
        *until = (*until).max(now() + lasts);
    }

    /// A key has a value, maybe not for long.
    pub fn taken(&mut self, key: &str) {
        self.quiet.free.remove(key);
    }

    /// Since when nothing is wrong, as far as a process can know.
    pub fn quiet_since(&self, process: usize) -> Time {
        self.quiet.servers.max(self.quiet.processes.get(&process).copied().unwrap_or(0))
    }

    /// Looks whether somebody waits for a key that is free.
    pub fn look_at_waiters(&mut self) {
        for resource in self.story.resources.clone() {
            let key = format!("reservation-{resource}");
            if self.nodes[self.home(&key)].text_at(&key).is_some() {
                self.taken(&key);
                continue;
            }
            let since = *self.quiet.free.entry(key.clone()).or_insert(now());
            let waits = |number: &usize| {
                let one = &self.environments[*number];
                let quiet = self.quiet_since(one.process);
                let free = now().saturating_sub(since.max(quiet).max(one.asked_at(&resource)?));
                let limit = Time::try_from(one.settings.command_timeout.as_millis()).unwrap_or(Time::MAX);
                // One that cannot read may have it.
                let can_read =
                    one.is_open && one.blocked_until + 1 < now() && self.processes[one.process].runs();
                // While a slot moves, a look goes to and fro, which takes longer than such a command may.
                let link = &self.processes[one.process].link;
                let is_far = self.cluster.is_some() && limit < 8 * (2 * (link.delay + link.jitter) + 1);
                let can_lock = can_read && !is_far && self.story.can_lock(*number);
                (can_lock && free > MAY_BE_FREE + self.story.more_to_connect() + limit).then_some(())
            };
            if let Some(number) = (0..self.environments.len()).find(|number| waits(number).is_some()) {
                self.quiet.free.insert(key.clone(), Time::MAX);
                self.offence(format!("{key} is free, and caller {number} waits for it"));
            }
        }
    }

    /// True if this lease, which has run out, was to be renewed, and nothing has kept it from that.
    pub fn was_needless(&self, watched: &Watched) -> bool {
        if now() < self.quiet_since(watched.process)
            || self.story.denied.iter().any(|command| command == "pttl")
        {
            return false;
        }
        let terms = watched.reservation.settings().terms;
        let shortest = self.environments[watched.environment].shortest_ttl;
        let interval = match terms.interval {
            Interval::Third => shortest / 3,
            Interval::Every(length) => Time::try_from(length.as_millis()).unwrap_or(Time::MAX),
            Interval::Never => return false,
        };
        let link = &self.processes[watched.process].link;
        let round_trip = 2 * (link.delay + link.jitter) + 1;
        // A WAIT may be in front of a renewal.
        let held_up = if watched.reservation.settings().min_replicas > 0 { HELD_UP } else { 0 };
        // In a cluster a slot that moves sends it from one to the other and back.
        let round_trips = if self.cluster.is_some() { 12 } else { 4 };
        terms.max_hold.is_none() && interval + round_trips * round_trip + held_up <= shortest
    }
}
