//! A simulated redis: one process of it, without sockets and without a clock. Bytes go in with the time at which they
//! come, bytes come out; the same calls have the same answers. `src/tests/simulated_redis.rs` holds it to the real ones.
//!
//! - [`resp`]: the wire format
//! - [`version`]: which server it is, and its words
//! - [`table`]: the commands that are known
//! - [`process`]: from a request to its reply, through everything that may refuse it
//! - [`keys`], [`strings`]: commands about keys
//! - [`session`], [`client_command`]: commands about connections
//! - [`scripts`], [`lua`]: EVAL and its kin
//! - [`tracking`]: client-side caching
//! - [`replication`]: masters, replicas, WAIT, restarts
//! - [`faults`]: what a server refuses
//! - [`cluster`], [`sentinel`]: what a node of a cluster and a sentinel answer

pub mod client;
mod client_command;
pub mod cluster;
pub mod data;
pub mod faults;
mod keys;
mod lua;
mod process;
pub mod replication;
pub mod resp;
mod scripts;
pub mod sentinel;
mod session;
mod strings;
mod table;
mod tracking;
pub mod version;

use std::collections::BTreeMap;

use client::{Client, ClientId};
use cluster::Cluster;
use data::{Data, Time};
use faults::Faults;
use replication::{Replication, TICK};
use scripts::Scripts;
use sentinel::Sentinel;
use tracking::Tracking;
use version::Version;

/// What an operator sets.
#[derive(Clone, Debug)]
pub struct Config {
    pub version: Version,
    /// Of the default user; there is no other.
    pub password: Option<String>,
    pub max_clients: usize,
    /// How long after its end a key that nobody asks for is deleted: some milliseconds in an empty server, seconds in a
    /// full one; `None`: never.
    pub active_expiry: Option<Time>,
    /// The address that clients connect to, as CLIENT INFO shows it.
    pub address: String,
}

impl Config {
    pub fn new(version: Version) -> Self {
        Self {
            version,
            password: None,
            max_clients: 10_000,
            active_expiry: Some(0),
            address: "127.0.0.1:6379".into(),
        }
    }
}

/// One redis process.
pub struct Server {
    pub config: Config,
    /// What it refuses, and until when the caller lets it.
    pub faults: Faults,
    /// Set for a node of a cluster.
    pub cluster: Option<Cluster>,
    /// Set for a sentinel.
    pub sentinel: Option<Sentinel>,
    pub data: Data,
    clients: BTreeMap<ClientId, Client>,
    /// The number of the client that connected last.
    pub last_id: ClientId,
    tracking: Tracking,
    scripts: Scripts,
    replication: Replication,
    random: fastrand::Rng,
    now: Time,
    started: Time,
    run_id: String,
    /// Whose command runs.
    current: Option<ClientId>,
}

impl Server {
    pub fn new(config: Config, seed: u64, now: Time) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let run_id = (0..40).map(|_| char::from_digit(random.u32(..16), 16).unwrap()).collect();
        let history = random.u64(..);
        Self {
            config,
            faults: Faults::default(),
            cluster: None,
            sentinel: None,
            data: Data::default(),
            clients: BTreeMap::new(),
            last_id: 0,
            tracking: Tracking::default(),
            scripts: Scripts::default(),
            replication: Replication::new(history),
            random,
            now,
            started: now,
            run_id,
            current: None,
        }
    }

    pub fn run_id(&self) -> &str {
        &self.run_id
    }

    /// A connection from an address. One too many is told so, and closed.
    pub fn connect(&mut self, address: &str, now: Time) -> ClientId {
        self.advance(now);
        self.last_id += 1;
        let mut client = Client::new(address.to_owned(), now);
        client.is_authenticated = self.config.password.is_none();
        if self.clients.len() >= self.config.max_clients {
            client.output.extend(b"-ERR max number of clients reached\r\n");
            client.closes = true;
        }
        self.clients.insert(self.last_id, client);
        self.last_id
    }

    /// Bytes of a client have come.
    pub fn receive(&mut self, id: ClientId, bytes: &[u8], now: Time) {
        self.advance(now);
        if let Some(client) = self.clients.get_mut(&id)
            && !client.closes
        {
            client.input.extend(bytes);
            self.run(id);
            self.run_unblocked();
        }
    }

    /// What the server has written to a client since it was last asked: replies and pushes, in order.
    pub fn take_output(&mut self, id: ClientId) -> Vec<u8> {
        let Some(client) = self.clients.get_mut(&id) else { return Vec::new() };
        client.sent = 0;
        std::mem::take(&mut client.output)
    }

    /// What is written is on its way: no kill takes it back.
    fn send_all(&mut self) {
        for client in self.clients.values_mut() {
            client.sent = client.output.len();
        }
    }

    /// Who has something to read, or is hung up on.
    pub fn clients_with_news(&self) -> impl Iterator<Item = ClientId> + '_ {
        let has_news = |client: &Client| client.closes || !client.output.is_empty();
        self.clients.iter().filter(move |(_, client)| has_news(client)).map(|(&id, _)| id)
    }

    /// True once the server has hung up. What it wrote before can still be taken, until [`Server::close`].
    pub fn is_closed_by_server(&self, id: ClientId) -> bool {
        self.clients.get(&id).is_none_or(|client| client.closes)
    }

    /// The client's end of the connection is closed, or both are.
    pub fn close(&mut self, id: ClientId) {
        self.clients.remove(&id);
        self.forget_reader(id);
    }

    /// Time passes: keys are expired, waits end.
    pub fn advance(&mut self, now: Time) {
        self.now = self.now.max(now);
        self.send_all();
        while self.next_expiry().is_some_and(|due| due <= self.now) {
            let (_, place) = self.data.first_end().unwrap().clone();
            self.delete(&place);
        }
        self.end_waits();
    }

    /// When [`Server::advance`] has something to do next; `None`: not before somebody sends something.
    pub fn next_event(&self) -> Option<Time> {
        let waits = self.clients.values().filter_map(|client| client.waiting?.until);
        waits.min().into_iter().chain(self.next_expiry()).min()
    }

    /// Only a master deletes what is over.
    fn next_expiry(&self) -> Option<Time> {
        let late = self.config.active_expiry.filter(|_| self.role() == replication::Role::Master)?;
        let (end, _) = self.data.first_end()?;
        Some((end + 1 + late).next_multiple_of(TICK))
    }
}
