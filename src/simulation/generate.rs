//! Writes the story of a seed. What is not usual is added by kinds.rs.

use super::network::{Fate, Side};
use super::process::Link;
use super::server::data::Time;
use super::server::faults::Fault;
use super::server::version::Version;
use super::story::{Action, EnvironmentPlan, LONGEST_EXPIRE, ProcessPlan, Renewal, Story};

/// The story of a seed, of the usual kind.
pub fn story_of(seed: u64) -> Story {
    let mut random = fastrand::Rng::with_seed(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    Writer { random: &mut random }.story(seed)
}

/// How long a story goes on before everything heals.
const LENGTH: Time = 60_000;

pub struct Writer<'random> {
    pub random: &'random mut fastrand::Rng,
}

impl Writer<'_> {
    pub fn one_of<T: Clone>(&mut self, choices: &[T]) -> T {
        choices[self.random.usize(..choices.len())].clone()
    }

    pub fn chance(&mut self, one_in: u32) -> bool {
        self.random.u32(..one_in) == 0
    }

    /// Short times are as likely as long ones.
    pub fn time(&mut self, least: Time, most: Time) -> Time {
        let power = self.random.f64();
        #[allow(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "roughly"
        )]
        let time = (least as f64 * (most as f64 / least as f64).powf(power)) as Time;
        time
    }

    fn story(&mut self, seed: u64) -> Story {
        let versions = [Version::Redis62, Version::Redis70, Version::Redis8, Version::Valkey9];
        let (has_replicas, has_sentinels) = self.one_of(&[
            (false, false),
            (false, false),
            (false, false),
            (true, false),
            (true, true),
            (true, true),
        ]);
        let processes: Vec<_> = (0..self.random.usize(1..=3)).map(|_| self.process()).collect();
        let callers = processes.len() + self.random.usize(..=2);
        let environments: Vec<_> =
            (0..callers).map(|number| self.environment(number % processes.len(), &processes)).collect();
        let resources: Vec<String> =
            ["a", "b", "c"][..self.random.usize(1..=3)].iter().map(|&name| name.to_owned()).collect();
        let nodes = if has_replicas { self.random.usize(2..=3) } else { 1 };
        let mut story = Story {
            seed,
            version: self.one_of(&versions),
            speaks_resp2: self.chance(5),
            denied: self.denied(),
            active_expiry: self.one_of(&[Some(0), Some(0), Some(30), Some(1_000), None]),
            nodes,
            sentinels: if has_sentinels { self.random.usize(1..=3) } else { 0 },
            lag: self.one_of(&[0, 0, 50, 1_000]),
            addresses: Vec::new(),
            cluster: None,
            processes,
            environments,
            resources,
            steps: Vec::new(),
            end: LENGTH,
        };
        for caller in 0..story.environments.len() {
            self.program(&mut story, caller);
        }
        self.trouble(&mut story);
        story.steps.sort_by_key(|(time, _)| *time);
        story
    }

    /// Most users may do everything; what a release needs, all of them may.
    fn denied(&mut self) -> Vec<String> {
        if !self.chance(3) {
            return Vec::new();
        }
        let commands = [
            "client|kill",
            "client|kill",
            "client|info",
            "client|tracking",
            "client|caching",
            "client|setname",
            "script|load",
            "pttl",
        ];
        (0..self.random.usize(1..=3)).map(|_| self.one_of(&commands).to_owned()).collect()
    }

    fn process(&mut self) -> ProcessPlan {
        let link = Link {
            delay: self.one_of(&[0, 0, 1, 2, 20]),
            jitter: self.one_of(&[0, 1, 3, 30]),
            ..Link::default()
        };
        ProcessPlan { link, parts_per_million: self.random.i64(-950..=950) }
    }

    fn environment(&mut self, process: usize, processes: &[ProcessPlan]) -> EnvironmentPlan {
        let Link { delay, jitter, .. } = processes[process].link;
        // What is too far away for its limits never gets anything.
        let round_trip = 2 * (delay + jitter) + 1;
        let ttls = [200, 500, 1_000, 3_000, 10_000, 30_000].into_iter().filter(|ttl| *ttl >= 10 * round_trip);
        let ttl = self.one_of(&ttls.collect::<Vec<_>>());
        let renewal = match self.random.u32(..8) {
            0 => Renewal::Never,
            1 => Renewal::Every(ttl / 2),
            2 => Renewal::Every(ttl / 10 + 1),
            _ => Renewal::Third,
        };
        let max_hold = self.chance(6).then(|| self.time(100, 30_000));
        let command_timeout = self.chance(3).then(|| self.time(50 + 2 * round_trip, ttl));
        let connect_timeout = self.one_of(&[200, 1_000, 5_000]) + 6 * round_trip;
        EnvironmentPlan { process, ttl, renewal, max_hold, command_timeout, connect_timeout, min_replicas: 0 }
    }

    /// What a caller does: it comes back to a few keys, at times quickly.
    fn program(&mut self, story: &mut Story, caller: usize) {
        let pace = self.time(20, 5_000);
        let mut at = self.random.u64(..1_000);
        while at < story.end && story.steps.len() < 600 {
            let key = self.one_of(&story.resources);
            let action = match self.random.u32(..20) {
                0..=3 => Action::Lock { caller, key },
                4..=8 => Action::Wait { caller, key, timeout: self.chance(2).then(|| self.time(1, 20_000)) },
                9 => Action::Cancel { caller, key },
                10..=14 => Action::Release { caller, key: Some(key) },
                15..=16 => Action::Release { caller, key: None },
                17 => Action::Renew { caller, ttl: self.one_of(&[200, 500, 1_000, 3_000, 10_000]) },
                18 => Action::Block { caller, time: self.time(1, 10_000) },
                _ if self.chance(30) => Action::Leave { caller },
                _ => Action::Release { caller, key: None },
            };
            let is_wait = matches!(action, Action::Wait { .. });
            story.steps.push((at, action));
            if is_wait && self.chance(6) {
                // While something may be on its way.
                let key = self.one_of(&story.resources);
                let at = at + self.random.u64(..=2 * way(story, caller));
                story.steps.push((at, Action::Cancel { caller, key }));
            }
            // Some things happen in one tick.
            at += if self.chance(5) { 0 } else { self.time(1, 2 * pace + 1) };
        }
    }

    fn trouble(&mut self, story: &mut Story) {
        let pace = self.one_of(&[500, 2_000, 5_000, 15_000, 120_000]);
        let calls: Vec<_> =
            story.steps.iter().filter_map(|(at, action)| Some((*at, asks(action)?))).collect();
        let mut at = self.random.u64(..pace);
        while at < story.end {
            let process = self.random.usize(..story.processes.len());
            // Some things go wrong just when a command or its reply is on its way.
            if !calls.is_empty() && self.chance(3) {
                let (asked, caller) = self.one_of(&calls);
                let at = asked + self.random.u64(..=2 * way(story, caller));
                let process = story.environments[caller].process;
                let action = if self.chance(2) { self.late(process) } else { self.fault(story, process) };
                story.steps.push((at, action));
            } else {
                let action = self.fault(story, process);
                story.steps.push((at, action));
            }
            at += if self.chance(6) { 0 } else { self.time(1, 2 * pace) };
        }
    }

    /// What is on its way arrives when nobody waits for it any more.
    fn late(&mut self, process: usize) -> Action {
        let by = self.time(10, 2_000);
        let heard = if self.chance(2) { None } else { Some(self.time(1, 2_000)) };
        Action::Cut { process, is_seen: true, fate: Fate::Late(by), heard }
    }

    fn fault(&mut self, story: &Story, process: usize) -> Action {
        let node = self.random.usize(..story.nodes);
        let key = self.one_of(&story.resources);
        match self.random.u32(..30) {
            0..=2 => Action::Stop { process, time: self.time(1, 20_000) },
            3 if self.chance(4) => Action::Kill { process },
            3..=7 => {
                let to = self.one_of(&[Side::Client, Side::Server]);
                Action::Stall { process, to, time: self.time(5, 15_000) }
            }
            8..=9 => Action::Slow { process, by: self.time(1, 2_000), time: self.time(50, 10_000) },
            10..=11 => Action::Unreachable { process, time: self.time(10, 8_000) },
            12..=16 => {
                let late = Fate::Late(self.time(1, 10_000));
                let fate = self.one_of(&[Fate::Lost, Fate::Partial, late, late]);
                let heard = if self.chance(4) { None } else { Some(self.time(1, 10_000)) };
                Action::Cut { process, is_seen: !self.chance(5), fate, heard }
            }
            17..=19 => Action::Hang { node, time: self.time(5, 15_000) },
            20..=21 => Action::Crash {
                node,
                silent: self.chance(4),
                keeps_data: !self.chance(3),
                time: self.time(5, 8_000),
            },
            22..=24 => {
                let faults = [
                    Fault::OutOfMemory,
                    Fault::Misconf,
                    Fault::NoReplicas,
                    Fault::MasterDown,
                    Fault::Loading,
                    Fault::Busy,
                ];
                Action::Trouble { node, fault: self.one_of(&faults), time: self.time(5, 8_000) }
            }
            25 if story.nodes > 1 => Action::FailOver { to: node, learns: self.time(1, 10_000) },
            25 => Action::LockOut { node, time: self.time(10, 5_000) },
            26 if self.chance(2) => Action::Full { node, time: self.time(10, 5_000) },
            26 => Action::KillClients,
            27 => Action::FlushScripts,
            28 => match self.random.u32(..4) {
                0 => Action::Delete { key },
                1 => Action::Expire { key, time: self.time(1, LONGEST_EXPIRE) },
                2 => Action::Take { key, time: self.time(10, 5_000) },
                _ => Action::FlushAll,
            },
            _ if story.nodes > 1 => Action::FailOver { to: node, learns: self.time(1, 3_000) },
            _ => Action::KillClients,
        }
    }
}

/// The caller of a call that asks redis.
fn asks(action: &Action) -> Option<usize> {
    match action {
        Action::Lock { caller, .. }
        | Action::Wait { caller, .. }
        | Action::Release { caller, .. }
        | Action::Renew { caller, .. } => Some(*caller),
        _ => None,
    }
}

/// How long a command of a caller, or its reply, is on its way at the most.
fn way(story: &Story, caller: usize) -> Time {
    let Link { delay, jitter, .. } = story.processes[story.environments[caller].process].link;
    delay + jitter + 1
}
