//! What a story lets go wrong, what others do to the keys, and how everything heals at its end.

use super::story::Action;
use super::world::{Occurrence, World, now};

impl World {
    /// Something goes wrong.
    pub fn befall(&mut self, index: usize, action: &Action) {
        let now = now();
        match *action {
            Action::Stop { process, time } => self.stop(process, now + time),
            Action::Kill { process } => self.kill(process),
            Action::Stall { process, to, time } => self.stall(process, to, now + time),
            Action::Slow { process, by, time } => {
                let link = &mut self.processes[process].link;
                (link.slow_by, link.slow_until) = (by, now + time);
            }
            Action::Unreachable { process, time } => {
                self.processes[process].link.unreachable_until = now + time;
            }
            Action::Cut { process, is_seen, fate, heard } => {
                for id in self.connections_of(process) {
                    self.cut(id, is_seen, fate, heard);
                }
            }
            Action::Hang { node, time } => {
                self.nodes[node].hung_until = now + time;
                self.suspect(node);
            }
            Action::Crash { node, silent, keeps_data, time } => {
                self.crash(node, silent, keeps_data, now + time);
            }
            Action::Trouble { node, fault, time } => {
                self.nodes[node].server.faults.begin(fault);
                self.schedule(now + time, Occurrence::Heal(index));
            }
            Action::LockOut { node, time } => {
                self.nodes[node].server.config.password = Some("another".into());
                self.schedule(now + time, Occurrence::Heal(index));
            }
            Action::Full { node, time } => {
                self.nodes[node].server.config.max_clients = 1;
                self.schedule(now + time, Occurrence::Heal(index));
            }
            Action::FailOver { to, learns } => {
                self.fail_over(to, learns);
                self.tell_sentinels();
            }
            Action::Succeed { silent, time } => {
                self.succeed(silent, now + time);
                self.tell_sentinels();
            }
            Action::Migrate { ref key, to, time } => self.migrate(&format!("reservation-{key}"), to, time),
            Action::Detach { node, time } => self.detach(node, now + time),
            Action::Nameless { time } => self.nameless_until = now + time,
            Action::Blind { node, time } => self.nodes[node].blind_until = now + time,
            Action::Delete { ref key } => self.meddle(key, |key| vec!["DEL".into(), key]),
            Action::Expire { ref key, time } => {
                self.meddle(key, |key| vec!["PEXPIRE".into(), key, time.to_string()]);
            }
            Action::Take { ref key, time } => self.meddle(key, |key| {
                ["SET", &key, "another-1", "PX", &time.to_string()].map(str::to_owned).to_vec()
            }),
            Action::FlushAll => {
                for node in self.masters() {
                    self.excuse_all_at(node);
                }
                self.operate_all(&["FLUSHALL"]);
            }
            Action::FlushScripts => self.operate_all(&["SCRIPT", "FLUSH"]),
            Action::KillClients => self.operate_all(&["CLIENT", "KILL", "SKIPME", "yes"]),
            _ => {}
        }
    }

    /// Somebody else's command about a key of ours.
    fn meddle(&mut self, resource: &str, words: impl FnOnce(String) -> Vec<String>) {
        let key = format!("reservation-{resource}");
        let node = self.home(&key);
        self.excuse(node, &key);
        let words = words(key);
        self.operate(node, &words.iter().map(String::as_str).collect::<Vec<_>>());
    }

    fn operate_all(&mut self, words: &[&str]) {
        for node in self.masters() {
            self.operate(node, words);
        }
    }

    fn operate(&mut self, master: usize, words: &[&str]) {
        if self.nodes[master].down.is_some() || self.nodes[master].hung_until > now() {
            return;
        }
        let reply = self.nodes[master].command(words);
        self.trace(|_| format!("{words:?}: {}", reply.trim_end()));
        self.flush(master);
    }

    fn tell_sentinels(&mut self) {
        let (name, first) = (self.nodes[self.master].address.ip().to_string(), self.story.nodes);
        for node in &mut self.nodes[first..] {
            if let Some(master) =
                node.server.sentinel.as_mut().and_then(|one| one.masters.get_mut("mymaster"))
                && master.host != name
            {
                master.host.clone_from(&name);
                master.epoch += 1;
            }
        }
    }

    /// A fault of the story is over.
    pub fn heal(&mut self, index: usize) {
        match self.story.steps.get(index).map(|(_, action)| action.clone()) {
            Some(Action::Trouble { node, fault, .. }) => self.nodes[node].server.faults.end(fault),
            Some(Action::LockOut { node, .. }) => self.nodes[node].server.config.password = None,
            Some(Action::Full { node, .. }) => self.nodes[node].server.config.max_clients = 10_000,
            _ => {}
        }
    }

    /// Everything heals. Returns what most callers do then: they stop waiting, but for the first few.
    pub fn end_of_story(&mut self) -> Vec<Action> {
        for process in 0..self.processes.len() {
            let one = &mut self.processes[process];
            one.link.slow_until = 0;
            one.link.unreachable_until = 0;
            if one.stopped_until > now() {
                one.stopped_for -= one.stopped_until - now();
                one.stopped_until = now();
                self.resume(process);
            }
        }
        self.nameless_until = 0;
        for node in 0..self.nodes.len() {
            self.nodes[node].hung_until = self.nodes[node].hung_until.min(now());
            self.nodes[node].blind_until = 0;
            if self.nodes[node].detached_until > now() {
                self.nodes[node].detached_until = 0;
                self.schedule(now(), Occurrence::Replicate(node));
            }
            self.restart(node);
        }
        for index in 0..self.story.steps.len() {
            self.heal(index);
        }
        let mut actions = Vec::new();
        for caller in 0..self.environments.len() {
            let until = &mut self.environments[caller].blocked_until;
            *until = (*until).min(now());
            self.schedule(now(), Occurrence::Letters(caller));
            for key in self.story.resources.clone() {
                let stay = if self.story.can_lock(caller) { STAY } else { 0 };
                let count = self.environments[caller].waits_for(&key).saturating_sub(stay);
                actions.extend(std::iter::repeat_n(Action::Cancel { caller, key }, count));
            }
        }
        actions
    }

    /// All callers release what they hold, so each waiter must get it in the end.
    pub fn let_go(&self) -> Vec<Action> {
        (0..self.environments.len()).map(|caller| Action::Release { caller, key: None }).collect()
    }
}

/// How many calls of a caller go on waiting for a key after the end.
const STAY: usize = 3;
