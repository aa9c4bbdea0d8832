//! When nothing is wrong: then no lease is lost that is to be renewed.

use std::collections::BTreeMap;

use super::invariants::Watched;
use super::node::settles;
use super::server::data::Time;
use super::story::Action;
use super::world::{World, now};
use crate::model::lease::Interval;

/// How long it takes at the most, when all is well again, until what is held is renewed: a command or a handshake that
/// gets no answer any more has to time out first, and then a connection is made.
const RECOVERY: Time = 7_000;

/// How long it takes at the most to find that a connection is dead of which nobody was told.
const DEAD: Time = 12_000;

/// Until when something was wrong.
#[derive(Debug, Default)]
pub struct Quiet {
    servers: Time,
    processes: BTreeMap<usize, Time>,
}

impl World {
    /// Something goes wrong.
    pub fn disturb(&mut self, action: &Action) {
        let (process, lasts) = match *action {
            Action::Stop { process, time }
            | Action::Stall { process, time, .. }
            | Action::Slow { process, time, .. }
            | Action::Unreachable { process, time } => (Some(process), time),
            Action::Cut { process, is_seen, .. } => (Some(process), if is_seen { 0 } else { DEAD }),
            Action::Hang { time, .. }
            | Action::Crash { time, .. }
            | Action::Trouble { time, .. }
            | Action::LockOut { time, .. }
            | Action::Full { time, .. } => (None, time),
            Action::FailOver { learns, .. } => (None, settles(learns)),
            Action::KillClients | Action::FlushScripts => (None, 0),
            _ => return,
        };
        let until = match process {
            Some(process) => self.quiet.processes.entry(process).or_default(),
            None => &mut self.quiet.servers,
        };
        *until = (*until).max(now() + lasts);
    }

    /// True if this lease, which has run out, was to be renewed, and nothing has kept it from that.
    pub fn was_needless(&self, watched: &Watched) -> bool {
        let since = self.quiet.servers.max(self.quiet.processes.get(&watched.process).copied().unwrap_or(0));
        if now() < since + RECOVERY || self.story.denied.iter().any(|command| command == "pttl") {
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
        terms.max_hold.is_none() && interval + 4 * round_trip <= shortest
    }
}
