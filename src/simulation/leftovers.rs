//! What stays in redis and belongs to nobody: keys of calls that were told that they have none, and of leases that are
//! over. They are deleted as soon as redis can be reached.

use std::collections::BTreeMap;

use super::network::Fate;
use super::server::data::Time;
use super::story::Action;
use super::world::{Occurrence, World, now};

/// How often it is looked.
const EACH: Time = 250;

/// How long a key may stay that belongs to nobody, while all is well, beside the time of a command and of a connect.
const MAY_STAY: Time = 2_000;

/// How long a system keeps a connection that is dead without its knowing.
const DEAD: Time = 55_000;

/// Since when which values belong to nobody.
#[derive(Debug, Default)]
pub struct Leftovers {
    since: BTreeMap<String, Time>,
    /// Until when something is wrong, as far as is known.
    troubled_until: Time,
}

impl World {
    /// Something is wrong for a while.
    pub fn is_troubled(&mut self, action: &Action) {
        let lasts = match *action {
            Action::Stop { time, .. }
            | Action::Block { time, .. }
            | Action::Stall { time, .. }
            | Action::Slow { time, .. }
            | Action::Unreachable { time, .. }
            | Action::Hang { time, .. }
            | Action::Crash { time, .. }
            | Action::Trouble { time, .. }
            | Action::LockOut { time, .. }
            | Action::Full { time, .. } => time,
            Action::FailOver { learns, .. } => learns,
            Action::Cut { is_seen: false, .. } => DEAD,
            Action::Cut { fate: Fate::Late(by), heard, .. } => by.max(heard.unwrap_or(0)),
            _ => 0,
        };
        self.leftovers.troubled_until = self.leftovers.troubled_until.max(now() + lasts);
    }

    /// Looks at the keys of the master.
    pub fn look_for_leftovers(&mut self) {
        self.schedule(now() + EACH, Occurrence::Look);
        let mut there = BTreeMap::new();
        for key in self.story.keys() {
            let Some(value) = self.nodes[self.master].text_at(&key) else { continue };
            let Some(caller) = owner_of(&value) else { continue };
            if self.belongs_to_nobody(caller, &key, &value) {
                let since = self.leftovers.since.get(&value).copied().unwrap_or(now());
                there.insert(value, since);
            }
        }
        for (value, since) in &there {
            let settings = &self.environments[owner_of(value).unwrap()].settings;
            let limits = settings.command_timeout + settings.connect_timeout;
            let may_stay = MAY_STAY + Time::try_from(limits.as_millis()).unwrap_or(Time::MAX);
            let since = (*since).max(self.leftovers.troubled_until);
            if now().saturating_sub(since) > may_stay {
                self.offence(format!("{value} stays in redis, and belongs to nobody"));
                self.leftovers.troubled_until = Time::MAX;
                break;
            }
        }
        self.leftovers.since = there;
    }

    fn belongs_to_nobody(&self, caller: usize, key: &str, value: &str) -> bool {
        let one = &self.environments[caller];
        one.is_open
            && self.processes[one.process].is_alive
            && !one.calls.values().any(|call| call.is_about(key))
            && !self.watched.iter().any(|watched| watched.has(value))
    }
}

/// The caller that a value was made for.
fn owner_of(value: &str) -> Option<usize> {
    value.strip_prefix("caller-")?.split('-').next()?.parse().ok()
}
