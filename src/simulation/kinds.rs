//! Kinds of stories that are not usual. Each begins as the story of its seed, and draws what it adds from a stream of its
//! own: so the other stories stay as they are.

use super::generate::{self, Writer};
use super::names::Address;
use super::network::Fate;
use super::process::Link;
use super::server::data::Time;
use super::story::{Action, ClusterPlan, Story};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Usual,
    /// Locks that replicas must have.
    Replicas,
    /// Names that have several addresses.
    Addresses,
    Cluster,
}

/// One seed in so many is of each kind.
const ONE_IN: u64 = 8;

impl Kind {
    pub fn named(name: &str) -> Option<Self> {
        let kinds = [
            ("usual", Self::Usual),
            ("replicas", Self::Replicas),
            ("addresses", Self::Addresses),
            ("cluster", Self::Cluster),
        ];
        kinds.into_iter().find(|(of, _)| *of == name).map(|(_, kind)| kind)
    }

    pub fn of(seed: u64) -> Self {
        match seed % ONE_IN {
            1 => Self::Replicas,
            3 => Self::Addresses,
            5 | 7 => Self::Cluster,
            _ => Self::Usual,
        }
    }
}

/// The story of a seed; `kind`: of another kind than its own.
pub fn story_of(seed: u64, kind: Option<Kind>) -> Story {
    let mut story = generate::story_of(seed);
    let mut random = fastrand::Rng::with_seed(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x6b69_6e64);
    let mut writer = Writer { random: &mut random };
    match kind.unwrap_or_else(|| Kind::of(seed)) {
        Kind::Usual => return story,
        Kind::Replicas => writer.replicas(&mut story),
        Kind::Addresses => writer.addresses(&mut story),
        Kind::Cluster => writer.cluster(&mut story),
    }
    story.steps.sort_by_key(|(time, _)| *time);
    story
}

impl Writer<'_> {
    /// Times at which something more goes wrong.
    fn moments(&mut self, story: &Story) -> Vec<Time> {
        let pace = self.one_of(&[2_000, 5_000, 15_000, 30_000]);
        let mut moments = Vec::new();
        let mut at = self.random.u64(..pace);
        while at < story.end {
            moments.push(at);
            at += self.time(1, 2 * pace);
        }
        moments
    }

    fn replicas(&mut self, story: &mut Story) {
        if story.nodes == 1 {
            story.nodes = self.random.usize(2..=3);
            story.sentinels = self.random.usize(..=2);
        }
        story.lag = self.one_of(&[0, 0, 0, 20, 80, 300]);
        for caller in 0..story.environments.len() {
            story.environments[caller].min_replicas = self.one_of(&[1, 1, 1, 1, 2, 0]);
            // Most get locks.
            if !story.can_lock(caller) && !self.chance(6) {
                let one = &mut story.environments[caller];
                one.min_replicas = 1;
                one.ttl = one.ttl.max(3_000);
                one.command_timeout = None;
            }
        }
        for at in self.moments(story) {
            let node = self.random.usize(..story.nodes);
            let action = match self.random.u32(..6) {
                0..=1 => Action::Detach { node, time: self.time(50, 15_000) },
                2 => Action::Hang { node, time: self.time(50, 5_000) },
                3 => Action::Crash {
                    node,
                    silent: self.chance(4),
                    keeps_data: !self.chance(3),
                    time: self.time(5, 8_000),
                },
                _ => Action::Succeed { silent: self.chance(3), time: self.time(50, 10_000) },
            };
            story.steps.push((at, action));
        }
    }

    fn cluster(&mut self, story: &mut Story) {
        let masters = self.one_of(&[2, 3, 3]);
        story.nodes = masters * self.one_of(&[1, 2, 2, 3]);
        story.sentinels = 0;
        story.lag = self.one_of(&[0, 0, 20, 300]);
        story.cluster = Some(ClusterPlan {
            masters,
            seeds: self.random.usize(1..=masters),
            full_coverage: self.chance(2),
            node_timeout: self.one_of(&[500, 2_000, 5_000]),
            gossip: self.one_of(&[20, 300, 2_000]),
        });
        // What goes wrong with a server, goes wrong with any.
        for (_, action) in &mut story.steps {
            match action {
                Action::Hang { node, .. }
                | Action::Crash { node, .. }
                | Action::Trouble { node, .. }
                | Action::LockOut { node, .. }
                | Action::Full { node, .. }
                | Action::FailOver { to: node, .. } => *node = self.random.usize(..story.nodes),
                _ => {}
            }
        }
        for at in self.moments(story) {
            let node = self.random.usize(..story.nodes);
            let action = match self.random.u32(..8) {
                0..=2 => {
                    let key = self.one_of(&story.resources);
                    Action::Migrate { key, to: self.random.usize(..masters), time: self.time(2, 10_000) }
                }
                3 => Action::FailOver { to: node, learns: self.time(1, 3_000) },
                4 => Action::Hang { node, time: self.time(50, 12_000) },
                5 => Action::KillClients,
                _ => Action::Crash {
                    node,
                    silent: self.chance(3),
                    keeps_data: !self.chance(4),
                    time: self.time(5, 12_000),
                },
            };
            story.steps.push((at, action));
        }
    }

    fn addresses(&mut self, story: &mut Story) {
        let count = self.random.usize(1..=4);
        for _ in 0..count {
            let one = self.one_of(&[Address::Refuses, Address::Silent, Address::Silent, Address::Another]);
            story.addresses.push(one);
        }
        // To a sentinel the addresses are tried at a pace that does not depend on what a caller wants.
        let more = if story.sentinels > 0 { story.more_to_connect() } else { 0 };
        for one in &mut story.environments {
            let Link { delay, jitter, .. } = story.processes[one.process].link;
            // The last address has half of the time.
            one.connect_timeout += 6 * (2 * (delay + jitter) + 1) + more;
        }
        for at in self.moments(story) {
            // Where sentinels name the master, they name its own address.
            let node = match story.sentinels {
                0 => self.random.usize(..story.nodes),
                count => story.nodes + self.random.usize(..count),
            };
            let action = match self.random.u32(..4) {
                0 if story.addresses.contains(&Address::Another) => {
                    Action::Blind { node, time: self.time(50, 15_000) }
                }
                1 => Action::Nameless { time: self.time(50, 5_000) },
                2 => Action::KillClients,
                _ => {
                    let process = self.random.usize(..story.processes.len());
                    Action::Cut { process, is_seen: true, fate: Fate::Lost, heard: Some(1) }
                }
            };
            story.steps.push((at, action));
        }
    }
}
