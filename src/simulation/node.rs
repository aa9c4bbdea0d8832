//! A simulated server in its place: its address, its hangs, crashes and restarts, its replicas.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::SocketAddr;

use super::network::{ConnectionId, Side};
use super::server::Server;
use super::server::client::ClientId;
use super::server::data::{Place, Time, Value, is_over};
use super::server::replication::Role;
use super::server::version::Version;
use super::world::{Occurrence, World, now};
use crate::connection::resolve;
use crate::model::endpoint::Host;

pub struct Node {
    pub server: Server,
    pub address: SocketAddr,
    /// Stopped: it takes and gives nothing before. Its system still accepts connections.
    pub hung_until: Time,
    /// Not running; true: its machine is gone too, and says nothing.
    pub down: Option<bool>,
    /// For a restart: whether the data are there again.
    pub keeps_data: bool,
    /// How long a write takes to get to this replica.
    pub lag: Time,
    /// It was the master before a failover, and does not know yet that it is a replica now: it still takes writes.
    pub is_stale_master: bool,
    by_client: BTreeMap<ClientId, ConnectionId>,
    /// When it looks next at what it does on time.
    tick: Option<Time>,
    is_replicating: bool,
}

impl Node {
    pub fn new(server: Server, address: SocketAddr, lag: Time) -> Self {
        Self {
            server,
            address,
            hung_until: 0,
            down: None,
            keeps_data: true,
            lag,
            is_stale_master: false,
            by_client: BTreeMap::new(),
            tick: None,
            is_replicating: false,
        }
    }

    /// A connection of a client has been made.
    pub fn accept(&mut self, address: &str, id: ConnectionId) -> ClientId {
        let client = self.server.connect(address, now());
        self.by_client.insert(client, id);
        client
    }

    pub fn receive(&mut self, client: ClientId, bytes: &[u8]) {
        self.server.receive(client, bytes, now());
    }

    pub fn disconnected(&mut self, client: ClientId) {
        self.by_client.remove(&client);
        self.server.close(client);
    }

    /// The text at a key, if its time is not over.
    pub fn text_at(&self, key: &str) -> Option<String> {
        let entry = self.server.data.get(&place_of(key)).filter(|entry| !is_over(entry, now()))?;
        match &entry.value {
            Value::Text(text) => Some(String::from_utf8_lossy(text).into_owned()),
            Value::List(_) => Some(String::new()),
        }
    }

    /// When the key ends, if it has this text.
    pub fn end_of(&self, key: &str, text: &str) -> Option<Time> {
        let entry = self.server.data.get(&place_of(key)).filter(|entry| !is_over(entry, now()))?;
        let is_it = matches!(&entry.value, Value::Text(found) if found == text.as_bytes());
        is_it.then(|| entry.expires.unwrap_or(Time::MAX))
    }

    /// Somebody else's command, at the server itself. Returns the raw reply.
    pub fn command(&mut self, words: &[&str]) -> String {
        let mut request = format!("*{}\r\n", words.len());
        for word in words {
            let _ = write!(request, "${}\r\n{word}\r\n", word.len());
        }
        let client = self.server.connect("127.0.0.1:1", now());
        if self.server.config.version != Version::Redis62 {
            // An operator's connection, as any other.
            self.server.receive(client, b"*1\r\n$4\r\nPING\r\n", now());
            self.server.take_output(client);
        }
        self.server.receive(client, request.as_bytes(), now());
        let reply = String::from_utf8_lossy(&self.server.take_output(client)).into_owned();
        self.server.close(client);
        reply
    }

    fn is_running(&self) -> bool {
        self.down.is_none() && self.hung_until <= now()
    }
}

/// Where a key of ours is.
pub fn place_of(key: &str) -> Place {
    (0, key.as_bytes().to_vec())
}

impl World {
    /// What a server has written goes on its way; what it has to do on time is noted.
    pub fn flush(&mut self, node: usize) {
        for client in self.nodes[node].server.clients_with_news().collect::<Vec<_>>() {
            let one = &mut self.nodes[node];
            let output = one.server.take_output(client);
            let closes = one.server.is_closed_by_server(client);
            let connection = one.by_client.get(&client).copied();
            if closes {
                one.disconnected(client);
            }
            let Some(connection) = connection else { continue };
            if !output.is_empty() {
                self.answer(connection, output);
            }
            if closes {
                if let Some(one) = self.connections.get_mut(&connection) {
                    one.client = None;
                }
                self.hang_up(connection, Side::Client);
            }
        }
        let one = &mut self.nodes[node];
        let next = one.server.next_event().map(|next| next.max(now() + 1));
        if let Some(next) = next
            && one.tick.is_none_or(|tick| tick > next || tick <= now())
        {
            one.tick = Some(next);
            self.schedule(next, Occurrence::Tick(node));
        }
        if node == self.master {
            self.replicate_soon();
        }
    }

    fn replicate_soon(&mut self) {
        let offset = self.nodes[self.master].server.offset();
        for replica in 0..self.nodes.len() {
            let one = &mut self.nodes[replica];
            if replica != self.master
                && one.server.role() == Role::Replica
                && !one.is_replicating
                && one.server.offset() != offset
            {
                one.is_replicating = true;
                let at = now() + one.lag;
                self.schedule(at, Occurrence::Replicate(replica));
            }
        }
    }

    pub fn replicate(&mut self, replica: usize) {
        let master = self.master;
        self.nodes[replica].is_replicating = false;
        let can = self.nodes[replica].down.is_none() && self.nodes[master].is_running();
        if replica == master || !can || self.nodes[replica].server.role() != Role::Replica {
            return;
        }
        let [one, other] = self.nodes.get_disjoint_mut([replica, master]).unwrap();
        let offset = one.server.replicate(&other.server, other.server.offset(), now());
        other.server.acknowledge(replica as u64, offset, now());
        self.flush(replica);
        self.flush(master);
    }

    pub fn tick(&mut self, node: usize) {
        let one = &mut self.nodes[node];
        if one.down.is_some() {
            return;
        }
        if one.hung_until > now() {
            let at = one.hung_until;
            one.tick = Some(at);
            return self.schedule(at, Occurrence::Tick(node));
        }
        one.tick = None;
        one.server.advance(now());
        self.flush(node);
    }

    /// The server's process ends.
    pub fn crash(&mut self, node: usize, silent: bool, keeps_data: bool, until: Time) {
        if self.nodes[node].down.is_some() {
            return;
        }
        self.nodes[node].down = Some(silent);
        self.nodes[node].keeps_data = keeps_data;
        self.nodes[node].hung_until = 0;
        if !keeps_data || self.nodes[node].is_stale_master {
            self.excuse_all_at(node);
        }
        self.server_gone(node, silent);
        self.schedule(until, Occurrence::Restart(node));
    }

    pub fn restart(&mut self, node: usize) {
        let one = &mut self.nodes[node];
        if one.down.take().is_none() {
            return;
        }
        one.by_client.clear();
        let (keeps_data, faults) = (one.keeps_data, one.server.faults.clone());
        one.server.restart(keeps_data, now());
        one.server.faults = faults;
        one.tick = None;
        one.is_replicating = false;
        if node != self.master {
            one.server.demote();
            self.replicate_soon();
        }
        self.flush(node);
    }

    /// A replica becomes the master. The old one learns of it after `learns`; until then it serves on.
    pub fn fail_over(&mut self, to: usize, learns: Time) {
        let from = self.master;
        if to == from || self.nodes[to].down.is_some() || self.nodes[to].server.role() == Role::Master {
            return;
        }
        self.excuse_all_at(from);
        self.nodes[to].server.promote();
        self.nodes[from].is_stale_master = true;
        (self.former_master, self.name_settles) = (from, now() + settles(learns));
        self.master = to;
        // What was deleted at the old one just now may be there again.
        self.excuse_all_at(to);
        self.flush(to);
        self.schedule(now() + learns, Occurrence::Heal(HEAL_STALE + from));
        self.trace(|_| format!("failover: {from} to {to}"));
    }

    /// The addresses of a name. For a while after a failover some caches still have the old one.
    pub fn look_up(&mut self, host: &Host) -> resolve::Answer {
        if host.name != NAME {
            let detail = format!("getaddrinfo ENOTFOUND {}", host.name);
            return Err(resolve::Unresolved { detail, reason: "ENOTFOUND" });
        }
        let is_outdated = self.name_settles > now() && self.random.bool();
        let node = if is_outdated { self.former_master } else { self.master };
        Ok(vec![self.nodes[node].address])
    }

    /// The old master learns that it is a replica now.
    pub fn learn(&mut self, node: usize) {
        self.excuse_all_at(node);
        self.nodes[node].is_stale_master = false;
        if node != self.master {
            self.nodes[node].server.demote();
            self.flush(node);
            self.replicate_soon();
        }
    }
}

/// The name of the master, where no sentinels are asked.
pub const NAME: &str = "redis";

/// How long after a failover a name may lead to the old master, which learns of it after `learns`.
pub fn settles(learns: Time) -> Time {
    2 * learns
}

/// The numbers of faults from which on they stand for an old master that learns of its end.
pub const HEAL_STALE: usize = 1 << 32;
