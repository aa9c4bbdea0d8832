//! Masters and replicas: what a master hands on, how far each replica has come, and who waits for that.

use std::collections::BTreeMap;

use super::Server;
use super::client::{ClientId, Waiting};
use super::data::{Data, Entry, Place, Time};
use super::resp::{Reply, integer};
use super::version::Version;

/// Redis looks ten times a second at what it does on time alone.
pub const TICK: Time = 100;

/// One change, as what is there afterwards.
#[derive(Clone, Debug)]
pub enum Effect {
    Set(Place, Entry),
    Gone(Place),
    AllGone,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Master,
    Replica,
}

/// What a server knows of the others.
#[derive(Debug)]
pub struct Replication {
    pub role: Role,
    /// Which history this is: a replica of another one begins anew.
    pub history: u64,
    pub log: Vec<Effect>,
    /// How much of the history came before the log.
    pub base: u64,
    /// How far each replica says that it has come.
    pub acknowledged: BTreeMap<u64, u64>,
}

impl Replication {
    pub fn new(history: u64) -> Self {
        Self { role: Role::Master, history, log: Vec::new(), base: 0, acknowledged: BTreeMap::new() }
    }

    /// How far the history goes.
    pub fn offset(&self) -> u64 {
        self.base + self.log.len() as u64
    }
}

impl Server {
    /// How far this server's history goes: what a replica can be brought up to.
    pub fn offset(&self) -> u64 {
        self.replication.offset()
    }

    pub fn role(&self) -> Role {
        self.replication.role
    }

    pub fn is_of_one_history_with(&self, master: &Self) -> bool {
        self.replication.history == master.replication.history
    }

    /// True for a replica that is behind in nothing.
    pub fn has_all_of(&self, master: &Self) -> bool {
        self.is_of_one_history_with(master) && self.offset() == master.offset()
    }

    /// Brings a replica up to `offset` of its master's history, or, of another history than its own, to all of it.
    /// Returns how far it has come, which the caller may bring to [`Server::acknowledge`].
    pub fn replicate(&mut self, master: &Server, offset: u64, now: Time) -> u64 {
        self.advance(now);
        let (mine, theirs) = (self.offset(), &master.replication);
        if self.replication.history != theirs.history || mine < theirs.base || mine > theirs.offset() {
            self.data = master.data.clone();
            self.replication.history = theirs.history;
            self.replication.base = theirs.offset();
            self.replication.log.clear();
            self.invalidate_all();
            return self.offset();
        }
        let at = |offset: u64| usize::try_from(offset - theirs.base).unwrap();
        for effect in theirs.log[at(mine)..at(offset.clamp(mine, theirs.offset()))].iter().cloned() {
            match &effect {
                Effect::Set(place, entry) => {
                    self.data.put(place.clone(), entry.clone());
                    self.invalidate(&place.1);
                }
                Effect::Gone(place) => {
                    self.data.remove(place);
                    self.invalidate(&place.1);
                }
                Effect::AllGone => {
                    self.data.clear();
                    self.invalidate_all();
                }
            }
            self.replication.log.push(effect);
        }
        self.offset()
    }

    /// A replica says how far it has come.
    pub fn acknowledge(&mut self, replica: u64, offset: u64, now: Time) {
        self.advance(now);
        self.replication.acknowledged.insert(replica, offset);
        self.end_waits();
    }

    /// A replica is no longer connected.
    pub fn forget_replica(&mut self, replica: u64) {
        self.replication.acknowledged.remove(&replica);
    }

    /// Makes it a master, with a history of its own from here on.
    pub fn promote(&mut self) {
        let history = self.random.u64(..);
        self.replication = Replication { base: self.offset(), ..Replication::new(history) };
    }

    /// Makes it a replica. Redis hangs up on who waits and keeps its other clients, who meet READONLY.
    pub fn demote(&mut self) {
        self.replication.role = Role::Replica;
        self.replication.acknowledged.clear();
        for client in self.clients.values_mut().filter(|client| client.waiting.is_some()) {
            client.waiting = None;
            client.closes = true;
            let text = "UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)";
            Reply::error(text).write(&mut client.output, client.resp3);
        }
    }

    pub(super) fn wait(&mut self, id: ClientId, words: &[Vec<u8>]) -> Option<Reply> {
        if self.role() == Role::Replica {
            let since = if self.config.version == Version::Valkey9 { "" } else { "since Redis 4.0 " };
            return Some(Reply::error(format!(
                "ERR WAIT cannot be used with replica instances. Please also note that {since}if a replica is configured to \
                 be writable (which is not the default) writes to replicas are just local and are not propagated."
            )));
        }
        let Some(replicas) = integer(&words[1]) else {
            return Some(Reply::error("ERR value is not an integer or out of range"));
        };
        let Some(limit) = integer(&words[2]) else {
            return Some(Reply::error("ERR timeout is not an integer or out of range"));
        };
        let Ok(limit) = Time::try_from(limit) else { return Some(Reply::error("ERR timeout is negative")) };
        let now = self.now;
        let offset = self.clients[&id].offset;
        let reached = self.reached(offset);
        if reached >= replicas {
            return Some(Reply::Int(reached));
        }
        let until = (limit > 0).then_some(now + limit);
        self.clients.get_mut(&id)?.waiting = Some(Waiting { replicas, offset, until });
        None
    }

    /// How many replicas have come so far.
    fn reached(&self, offset: u64) -> i64 {
        let count = self.replication.acknowledged.values().filter(|&&of| of >= offset).count();
        i64::try_from(count).unwrap_or(i64::MAX)
    }

    /// Answers the waits that are over, and runs what stood behind them.
    pub(super) fn end_waits(&mut self) {
        let now = self.now;
        let mut is_any = false;
        for id in self.clients.keys().copied().collect::<Vec<_>>() {
            let Some(waiting) = self.clients[&id].waiting else { continue };
            let reached = self.reached(waiting.offset);
            if reached < waiting.replicas && waiting.until.is_none_or(|until| now < until) {
                continue;
            }
            is_any = true;
            let client = self.clients.get_mut(&id).unwrap();
            client.waiting = None;
            Reply::Int(reached).write(&mut client.output, client.resp3);
        }
        if is_any {
            self.run_unblocked();
        }
    }

    pub(super) fn role_reply(&self) -> Reply {
        let number = |offset: u64| i64::try_from(offset).unwrap_or(i64::MAX);
        let offset = Reply::Int(number(self.offset()));
        match self.role() {
            Role::Master => {
                let replicas = self.replication.acknowledged.iter().map(|(id, offset)| {
                    let words = [format!("replica-{id}"), "6379".to_owned(), offset.to_string()];
                    Reply::Array(words.into_iter().map(Reply::bulk).collect())
                });
                Reply::Array(vec![Reply::bulk("master"), offset, Reply::Array(replicas.collect())])
            }
            Role::Replica => Reply::Array(vec![
                Reply::bulk("slave"),
                Reply::bulk("master"),
                Reply::Int(6379),
                Reply::bulk("connected"),
                offset,
            ]),
        }
    }

    /// The process ends and another begins: no client is left, no script is known, and the data are there or not.
    pub fn restart(&mut self, keeps_data: bool, now: Time) {
        let seed = self.random.u64(..);
        let data = std::mem::take(&mut self.data);
        let role = self.role();
        let fresh = Server::new(self.config.clone(), seed, now);
        *self = Server { data: if keeps_data { data } else { Data::default() }, ..fresh };
        self.replication.role = role;
    }
}
