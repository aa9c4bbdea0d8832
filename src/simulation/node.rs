//! A simulated server in its place: its address, its hangs, crashes and restarts.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::SocketAddr;

use super::network::{ConnectionId, Side};
use super::server::Server;
use super::server::client::ClientId;
use super::server::data::{Place, Time, Value, is_over};
use super::server::version::Version;
use super::world::{Occurrence, World, now};

#[allow(clippy::struct_excessive_bools, reason = "what may be wrong with it is independent of the rest")]
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
    /// The others of a cluster miss it, and nobody has taken its place.
    pub is_missed: bool,
    /// When it has last begun to say nothing.
    pub silent_since: Time,
    by_client: BTreeMap<ClientId, ConnectionId>,
    /// When it looks next at what it does on time.
    tick: Option<Time>,
    pub is_replicating: bool,
    /// As a replica it is cut off from its master before.
    pub detached_until: Time,
    /// Nobody answers attempts to connect at its own address before.
    pub blind_until: Time,
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
            is_missed: false,
            silent_since: 0,
            by_client: BTreeMap::new(),
            tick: None,
            is_replicating: false,
            detached_until: 0,
            blind_until: 0,
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

    /// True if a replica has this text at a key, also if its time is over: it waits for its master to delete it.
    pub fn has_had(&self, key: &str, text: &str) -> bool {
        let entry = self.server.data.get(&place_of(key));
        entry.is_some_and(|entry| matches!(&entry.value, Value::Text(found) if found == text.as_bytes()))
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

    pub fn is_running(&self) -> bool {
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
        self.replicate_soon(node);
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
        // A replica forgets how far it has come.
        if !keeps_data || node != self.leader_of(node) {
            self.replicas_broken = now();
        }
        self.server_gone(node, silent);
        self.replica_gone(node);
        self.suspect(node);
        self.schedule(until, Occurrence::Restart(node));
    }

    pub fn restart(&mut self, node: usize) {
        let one = &mut self.nodes[node];
        if one.down.take().is_none() {
            return;
        }
        one.by_client.clear();
        let (keeps_data, faults) = (one.keeps_data, one.server.faults.clone());
        let cluster = one.server.cluster.take();
        one.server.restart(keeps_data, now());
        one.server.faults = faults;
        one.server.cluster = cluster;
        one.tick = None;
        one.is_replicating = false;
        let leader = self.leader_of(node);
        if node != leader {
            self.nodes[node].server.demote();
            self.replicate_soon(leader);
        }
        self.rejoin(node);
        self.flush(node);
    }
}
