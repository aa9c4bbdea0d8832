//! What stays in redis and belongs to nobody: keys of calls that were told that they have none, and of leases that are
//! over. They are deleted as soon as redis can be reached.

use std::collections::BTreeMap;

use super::network::Fate;
use super::quiet::HELD_UP;
use super::replicas::settles;
use super::server::data::Time;
use super::story::Action;
use super::world::{Occurrence, World, now};

/// How often it is looked.
const EACH: Time = 250;

/// How long a key may stay that belongs to nobody, while all is well, beside the time of a command.
const MAY_STAY: Time = 1_500;

/// The same where nothing was wrong when it came there: no command has to time out first.
const MAY_STAY_IN_PEACE: Time = 1_000;

/// How long it takes at the most to find that a connection is dead of which nobody was told: the longest limit of a
/// command, and some more.
const DEAD: Time = 12_000;

/// Since when which values belong to nobody.
#[derive(Debug, Default)]
pub struct Leftovers {
    since: BTreeMap<String, Time>,
    /// When something is wrong with a server.
    servers: Trouble,
    /// When the last failover was.
    failed_over: Option<Time>,
    /// When something is wrong with a process or its connections.
    processes: BTreeMap<usize, Trouble>,
}

/// The latest time in which something was wrong all along, as far as is known.
#[derive(Clone, Copy, Debug, Default)]
struct Trouble {
    from: Time,
    until: Time,
}

impl Trouble {
    fn lasts(&mut self, time: Time) {
        // What follows soon is no pause in which something could be undone.
        if self.until + MAY_STAY < now() {
            self.from = now();
        }
        self.until = self.until.max(now() + time);
    }
}

impl World {
    /// Something is wrong for a while.
    pub fn is_troubled(&mut self, action: &Action) {
        self.disturb(action);
        let (process, lasts) = match *action {
            Action::Stop { process, time }
            | Action::Stall { process, time, .. }
            | Action::Slow { process, time, .. }
            | Action::Unreachable { process, time } => (Some(process), time),
            Action::Cut { process, is_seen: false, .. } => (Some(process), DEAD),
            Action::Cut { process, fate: Fate::Late(by), heard, .. } => {
                (Some(process), by.max(heard.unwrap_or(0)))
            }
            Action::Hang { time, .. }
            | Action::Crash { time, .. }
            | Action::Trouble { time, .. }
            | Action::Nameless { time }
            | Action::Full { time, .. } => (None, time),
            // A refused login ends all undoing: what is left ends by its ttl.
            Action::LockOut { time, .. } => (None, time + self.story.longest_ttl()),
            Action::FailOver { .. } | Action::Succeed { .. } => {
                let learns = if let Action::FailOver { learns, .. } = *action { learns } else { 1 };
                // A SET that was sent to the master before the last one may be executed once that is the master again.
                // It was undone at the last one, and ends by its ttl.
                let before = self.leftovers.failed_over.replace(now());
                let is_back = before.is_some_and(|at| at + self.story.longest_ttl() > now());
                (None, settles(learns) + if is_back { self.story.longest_ttl() } else { 0 })
            }
            _ => return,
        };
        match process {
            Some(process) => self.leftovers.processes.entry(process).or_default().lasts(lasts),
            None => self.leftovers.servers.lasts(lasts),
        }
    }

    /// Looks at the keys of the master.
    pub fn look_for_leftovers(&mut self) {
        self.schedule(now() + EACH, Occurrence::Look);
        self.look_at_waiters();
        let mut there = BTreeMap::new();
        for key in self.story.keys() {
            let Some(value) = self.nodes[self.home(&key)].text_at(&key) else { continue };
            let Some(caller) = owner_of(&value) else { continue };
            // What is given up once, stays so.
            if self.leftovers.since.get(&value) == Some(&Time::MAX) {
                there.insert(value, Time::MAX);
            } else if self.belongs_to_nobody(caller, &key, &value) {
                let since = self.leftovers.since.get(&value).copied().unwrap_or(now());
                there.insert(value, since);
            }
        }
        for (value, since) in &mut there {
            let one = &self.environments[owner_of(value).unwrap()];
            let milliseconds = |duration: std::time::Duration| Time::try_from(duration.as_millis()).unwrap();
            let limit = milliseconds(one.settings.command_timeout);
            let troubles =
                [self.leftovers.servers, *self.leftovers.processes.entry(one.process).or_default()];
            let until = troubles.map(|trouble| trouble.until).into_iter().max().unwrap_or(0);
            // Nothing is undone for longer than a ttl: a SET that comes even later is left to its own.
            let is_given_up = troubles.iter().any(|trouble| {
                *since <= trouble.until + MAY_STAY && trouble.until - trouble.from + limit >= one.shortest_ttl
            });
            if is_given_up {
                *since = Time::MAX;
                continue;
            }
            let is_quiet = self.quiet_since(one.process) <= *since;
            let may_stay =
                if is_quiet { MAY_STAY_IN_PEACE } else { MAY_STAY + self.story.more_to_connect() + limit };
            // A WAIT may be in front of what undoes it, and one was behind the SET.
            let held_up = if one.settings.min_replicas > 0 { 2 * HELD_UP } else { 0 };
            if now().saturating_sub(until.max(*since)) > may_stay + held_up {
                *since = Time::MAX;
                self.offence(format!("{value} stays in redis, and belongs to nobody"));
            }
        }
        self.leftovers.since = there;
    }

    fn belongs_to_nobody(&self, caller: usize, key: &str, value: &str) -> bool {
        let one = &self.environments[caller];
        let process = &self.processes[one.process];
        // A call that has it may be answered, and its caller be unable to read that.
        let cannot_read = !process.runs() || one.blocked_until > now();
        one.is_open
            && process.is_alive
            && !(cannot_read && one.calls.values().any(|call| call.is_about(key)))
            && !self.excused.contains(&(key.to_owned(), value.to_owned()))
            && !self.watched.iter().any(|watched| watched.has(value))
    }
}

/// The caller that a value was made for.
fn owner_of(value: &str) -> Option<usize> {
    value.strip_prefix("caller-")?.split('-').next()?.parse().ok()
}
