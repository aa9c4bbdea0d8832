//! A real server and a simulated one, with the same clients, that are sent the same.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::generate::{CLIENTS, State, Step};
use super::wire::Wire;
use crate::simulation::server::client::ClientId;
use crate::simulation::server::faults::Fault;
use crate::simulation::server::version::Version;
use crate::simulation::server::{Config, Server as Simulated};
use crate::tests::support::{Server, until};

const PATIENCE: Duration = Duration::from_secs(1);

/// One client, at both.
pub struct Client {
    stream: TcpStream,
    /// What has come of the real one and is not a whole reply yet.
    unread: Vec<u8>,
    id: ClientId,
    address: String,
    is_closed: bool,
}

pub struct Both {
    real: Server,
    /// For what the simulation is told by calls.
    control: TcpStream,
    version: Version,
    pub simulated: Simulated,
    pub clients: Vec<Client>,
    pub commands: usize,
    pub pushes: usize,
}

pub fn now() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

pub fn encode(words: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend(format!("${}\r\n", word.len()).as_bytes());
        bytes.extend(word);
        bytes.extend(b"\r\n");
    }
    bytes
}

fn text(word: &str) -> Vec<u8> {
    word.as_bytes().to_vec()
}

impl Both {
    /// `None` where the real one is none of those that are simulated.
    pub fn start() -> Option<Self> {
        let real = Server::start();
        let control = TcpStream::connect(("127.0.0.1", real.port)).unwrap();
        let info: String = real.run(&["INFO", "server"]);
        let field = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let server = if field("valkey_version").is_some() { "valkey" } else { "redis" };
        let number = field("valkey_version").or(field("redis_version")).unwrap();
        let Some(version) = Version::of(server, number) else {
            println!("{server} {number} is not simulated; nothing is compared");
            return None;
        };
        let simulated = Simulated::new(Config::new(version), 1, now());
        Some(Self { real, control, version, simulated, clients: Vec::new(), commands: 0, pushes: 0 })
    }

    pub fn name(&self) -> String {
        format!("{:?}", self.version)
    }

    /// A command that is for the real one alone.
    pub fn control(&mut self, words: &[&str]) -> Wire {
        self.control.write_all(&encode(&words.iter().map(|word| text(word)).collect::<Vec<_>>())).unwrap();
        let mut unread = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            let length = self.control.read(&mut buffer).unwrap();
            assert!(length > 0, "the control connection is closed");
            unread.extend(&buffer[..length]);
            if let Some((reply, _)) = Wire::parse(&unread) {
                assert!(!matches!(&reply, Wire::Line(line) if line.starts_with('-')), "{words:?}: {reply:?}");
                return reply;
            }
        }
    }

    /// Empty servers, with clients that are connected.
    pub fn begin(&mut self, seed: u64) {
        for state in [State::Full, State::Lonely, State::Replica, State::Closed] {
            self.set(state, false);
        }
        self.control(&["FLUSHALL"]);
        self.control(&["SCRIPT", "FLUSH"]);
        let config = Config { address: format!("127.0.0.1:{}", self.real.port), ..Config::new(self.version) };
        self.simulated = Simulated::new(config, seed, now());
        self.clients.clear();
        for _ in 0..CLIENTS {
            let client = self.connect();
            self.clients.push(client);
        }
    }

    fn connect(&mut self) -> Client {
        let stream = TcpStream::connect(("127.0.0.1", self.real.port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        let address = stream.local_addr().unwrap().to_string();
        // Both count alike, but the real one has others to count as well.
        let mut line = None;
        until("the server knows the client", || {
            let Wire::Text(_, list) = self.control(&["CLIENT", "LIST"]) else { return false };
            let is_it = |line: &&str| line.contains(&format!(" addr={address} "));
            line = list.lines().find(is_it).map(ToOwned::to_owned);
            line.is_some()
        });
        let line = line.unwrap();
        let number = line.split(' ').find_map(|field| field.strip_prefix("id=")).unwrap();
        self.simulated.last_id = number.parse::<u64>().unwrap() - 1;
        let id = self.simulated.connect(&address, now());
        Client { stream, unread: Vec::new(), id, address, is_closed: false }
    }

    /// The steps one after the other; the first difference.
    pub fn run(&mut self, steps: &[Step], seed: u64) -> Result<(), String> {
        self.begin(seed);
        for (at, step) in steps.iter().enumerate() {
            self.step(step).map_err(|difference| format!("step {at}, {step:?}: {difference}"))?;
        }
        Ok(())
    }

    pub fn step(&mut self, step: &Step) -> Result<(), String> {
        match step {
            Step::Send(client, commands) => return self.send(*client, commands),
            Step::Reconnect(at) => {
                self.simulated.close(self.clients[*at].id);
                self.clients[*at] = self.connect();
            }
            Step::Set(state, on) => self.set(*state, *on),
        }
        Ok(())
    }

    /// Brings both into a state or out of it.
    fn set(&mut self, state: State, on: bool) {
        let faults = &mut self.simulated.faults;
        let mut fault = |fault| if on { faults.begin(fault) } else { faults.end(fault) };
        match state {
            State::Full => {
                fault(Fault::OutOfMemory);
                self.control(&["CONFIG", "SET", "maxmemory", if on { "1" } else { "0" }]);
            }
            State::Lonely => {
                fault(Fault::NoReplicas);
                self.control(&["CONFIG", "SET", "min-replicas-to-write", if on { "1" } else { "0" }]);
            }
            State::Replica if on => {
                self.simulated.demote();
                // Nobody is there.
                self.control(&["REPLICAOF", "127.0.0.1", "1"]);
            }
            State::Replica => {
                self.simulated.promote();
                self.control(&["REPLICAOF", "NO", "ONE"]);
            }
            State::Closed => {
                self.simulated.config.password = on.then(|| "secret".into());
                self.control(&["CONFIG", "SET", "requirepass", if on { "secret" } else { "" }]);
            }
        }
    }

    /// Commands of one client in one write, and what all of them are told then.
    fn send(&mut self, at: usize, commands: &[Vec<Vec<u8>>]) -> Result<(), String> {
        if self.clients[at].is_closed {
            return Ok(());
        }
        let mut bytes = Vec::new();
        for command in commands {
            bytes.extend(encode(&command.iter().map(|word| self.fill_in(word)).collect::<Vec<_>>()));
        }
        self.commands += commands.len();
        let id = self.clients[at].id;
        self.clients[at].stream.write_all(&bytes).map_err(|error| error.to_string())?;
        self.simulated.receive(id, &bytes, now());
        // What others are told of it must be there when it has been answered, and theirs when they are asked.
        self.compare(at)?;
        for other in (0..self.clients.len()).filter(|&other| other != at) {
            self.compare(other)?;
        }
        Ok(())
    }

    /// `@id1` and `@address1`: of client 1.
    fn fill_in(&self, word: &[u8]) -> Vec<u8> {
        let of = |digit: &u8| &self.clients[usize::from(digit - b'0')];
        match word {
            [b'@', b'i', b'd', digit] => text(&of(digit).id.to_string()),
            [rest @ .., digit] if rest == b"@address" => text(&of(digit).address),
            _ => word.to_vec(),
        }
    }

    /// Asks for a sign of life, and compares all up to it. CLIENT leaves CLIENT CACHING in force.
    fn compare(&mut self, at: usize) -> Result<(), String> {
        let client = &mut self.clients[at];
        if client.is_closed {
            return Ok(());
        }
        let barrier = encode(&[text("CLIENT"), text("ID")]);
        // Where the server has hung up, that is what is read next.
        let _ = client.stream.write_all(&barrier);
        self.simulated.receive(client.id, &barrier, now());
        let mine = Wire::take(&mut self.simulated.take_output(client.id));
        let closes = self.simulated.is_closed_by_server(client.id);
        let (real, is_closed) = client.read(mine.iter().filter(|one| !one.is_push()).count(), closes);
        client.is_closed = is_closed;
        self.pushes += mine.iter().filter(|one| one.is_push()).count();
        let are_equal =
            mine.len() == real.len() && mine.iter().zip(&real).all(|(mine, real)| mine.equals(real));
        if are_equal && closes == is_closed {
            return Ok(());
        }
        Err(format!(
            "client {at}:\n  real      {real:?} closed {is_closed}\n  simulated {mine:?} closed {closes}"
        ))
    }
}

impl Client {
    /// So many replies, with the pushes among them, or all up to the end.
    fn read(&mut self, count: usize, until_closed: bool) -> (Vec<Wire>, bool) {
        let mut found = Vec::new();
        loop {
            found.extend(Wire::take(&mut self.unread));
            // Who is hung up on is told so by the end of its stream.
            if !until_closed && found.iter().filter(|one| !one.is_push()).count() >= count {
                return (found, false);
            }
            let mut buffer = [0; 16384];
            match self.stream.read(&mut buffer) {
                Ok(0) => return (found, true),
                Ok(length) => self.unread.extend(&buffer[..length]),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return (found, true),
                // Too few are a difference as well.
                Err(error) if error.kind() == ErrorKind::WouldBlock => return (found, false),
                Err(error) => panic!("{error}; so far {found:?}"),
            }
        }
    }
}
