//! The simulated network: connections between processes and servers, and what goes wrong on the way.

use std::collections::VecDeque;
use std::io;
use std::task::Waker;

use super::invariants::MAX_COMMANDS_A_SECOND;
use super::names::Who;
use super::server::client::ClientId;
use super::server::data::Time;
use super::world::{Occurrence, World, now};

pub type ConnectionId = u64;

/// An end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub enum Side {
    Client,
    Server,
}

#[derive(Debug)]
enum Part {
    Bytes(Vec<u8>),
    HangUp(io::ErrorKind),
}

/// One direction. What goes in comes out in order, later.
#[derive(Debug, Default)]
struct Pipe {
    parts: VecDeque<(Time, Part)>,
    last: Time,
    /// Nothing comes out before.
    stalled_until: Time,
    /// Nothing goes in any more.
    is_dead: bool,
}

#[derive(Debug, PartialEq, Eq)]
pub enum State {
    Connecting,
    Open,
    /// As the client sees it.
    Ended(io::ErrorKind),
}

pub struct Connection {
    pub process: usize,
    /// The server at the address; `None`: nobody.
    pub node: Option<usize>,
    pub is_refused: bool,
    pub client: Option<ClientId>,
    pub state: State,
    pub received: VecDeque<u8>,
    pub reader: Option<Waker>,
    to_server: Pipe,
    to_client: Pipe,
    /// When something was last sent or received on it.
    used: Option<Time>,
    /// The client's program has closed it.
    is_closed: bool,
}

/// What becomes of the bytes on their way to the server when a connection is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Fate {
    Lost,
    /// Some of the first ones arrive, at any byte.
    Partial,
    /// They arrive this much later, when the client has long given the connection up.
    Late(Time),
}

impl World {
    /// One way between a process and a server.
    pub fn delay(&mut self, process: usize) -> Time {
        let link = &self.processes[process].link;
        let slow = if link.slow_until > now() { link.slow_by } else { 0 };
        let (least, most) = (link.delay, link.delay + link.jitter);
        self.random.u64(least..=most) + slow
    }

    /// Bytes of the client.
    pub fn write(&mut self, id: ConnectionId, bytes: &[u8]) -> io::Result<usize> {
        let Some(connection) = self.connections.get_mut(&id) else {
            return Err(io::ErrorKind::BrokenPipe.into());
        };
        if let State::Ended(_) = connection.state {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        connection.used = Some(now());
        let process = connection.process;
        let sent = self.processes[process].send(commands_in(bytes));
        self.counts.busiest = self.counts.busiest.max(sent);
        // Each may be sent on by a node of a cluster, and asked for.
        let times = if self.cluster.is_some() { 3 } else { 1 };
        if sent > times * MAX_COMMANDS_A_SECOND {
            self.processes[process].sent.1 = 0;
            self.offence(format!("process {process} sends {sent} commands in a second"));
        }
        self.trace(|_| format!("process {process} > {id}: {}", shown(bytes)));
        self.send(id, Side::Server, Part::Bytes(bytes.to_vec()));
        Ok(bytes.len())
    }

    /// Bytes of the server.
    pub fn answer(&mut self, id: ConnectionId, bytes: Vec<u8>) {
        self.trace(|_| format!("      server > {id}: {}", shown(&bytes)));
        self.send(id, Side::Client, Part::Bytes(bytes));
    }

    pub fn hang_up(&mut self, id: ConnectionId, to: Side) {
        self.send(id, to, Part::HangUp(io::ErrorKind::UnexpectedEof));
    }

    fn send(&mut self, id: ConnectionId, to: Side, part: Part) {
        let Some(process) = self.connections.get(&id).map(|connection| connection.process) else { return };
        let delay = self.delay(process);
        let connection = self.connections.get_mut(&id).unwrap();
        let pipe = connection.pipe(to);
        if pipe.is_dead {
            return;
        }
        // A round trip takes at least a millisecond. Else a waiter that tries without a pause, as it may just before a
        // ttl ends, would try without end in the same one.
        let at = pipe.last.max(now() + delay + Time::from(to == Side::Client));
        pipe.last = at;
        pipe.is_dead = matches!(part, Part::HangUp(_));
        pipe.parts.push_back((at, part));
        self.schedule(at, Occurrence::Arrival(id, to));
    }

    /// What is due at this end of a connection is delivered.
    pub fn arrive(&mut self, id: ConnectionId, to: Side) {
        loop {
            let Some(connection) = self.connections.get_mut(&id) else { return };
            let node = connection.node.unwrap_or_default();
            let pipe = connection.pipe(to);
            let Some((at, _)) = pipe.parts.front() else { return };
            let mut due = (*at).max(pipe.stalled_until);
            if to == Side::Server {
                due = due.max(self.nodes[node].hung_until);
            }
            if due > now() {
                return self.schedule(due, Occurrence::Arrival(id, to));
            }
            let Some(connection) = self.connections.get_mut(&id) else { return };
            let Some((_, part)) = connection.pipe(to).parts.pop_front() else { return };
            self.counts.deliveries += 1;
            match (to, part) {
                (Side::Client, Part::HangUp(kind)) => return self.end_client(id, kind),
                (Side::Client, Part::Bytes(bytes)) => {
                    connection.used = Some(now());
                    connection.received.extend(bytes);
                    wake(connection.reader.take());
                }
                (Side::Server, Part::HangUp(_)) => {
                    let client = connection.client.take();
                    let is_done = connection.is_closed;
                    if let Some(client) = client {
                        self.nodes[node].disconnected(client);
                        self.flush(node);
                    }
                    if is_done {
                        self.connections.remove(&id);
                    } else {
                        // Both ends, where the client has not closed it: it was cut.
                        return;
                    }
                }
                (Side::Server, Part::Bytes(bytes)) => match connection.client {
                    Some(client) => {
                        self.nodes[node].receive(client, &bytes);
                        self.flush(node);
                    }
                    // The server was restarted since, and does not know this connection.
                    None if !connection.to_client.is_dead => self.reset(id),
                    None => {}
                },
            }
        }
    }

    /// The client finds its connection ended.
    pub fn end_client(&mut self, id: ConnectionId, kind: io::ErrorKind) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        if matches!(connection.state, State::Ended(_)) {
            return;
        }
        connection.state = State::Ended(kind);
        wake(connection.reader.take());
        self.trace(|_| format!("connection {id} ends for its client: {kind}"));
    }

    fn reset(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.to_client.parts.clear();
            self.send(id, Side::Client, Part::HangUp(io::ErrorKind::ConnectionReset));
        }
    }

    /// The client's program closes its end.
    pub fn close(&mut self, id: ConnectionId) {
        self.check_close(id);
        let Some(connection) = self.connections.get_mut(&id) else { return };
        connection.is_closed = true;
        connection.state = State::Ended(io::ErrorKind::NotConnected);
        connection.to_client.is_dead = true;
        let is_known = connection.client.is_some();
        self.trace(|_| format!("connection {id} is closed by its client"));
        if is_known {
            self.hang_up(id, Side::Server);
        } else {
            self.connections.remove(&id);
        }
    }

    /// While nothing is wrong, no connection is given up that was used just now.
    fn check_close(&mut self, id: ConnectionId) {
        let Some(Connection { process, node: Some(node), state: State::Open, used: Some(used), .. }) =
            self.connections.get(&id)
        else {
            return;
        };
        let (process, is_server) = (*process, *node < self.story.nodes);
        let is_idle = *used + IDLE < now();
        // The nodes of a cluster are dropped with their cluster, whenever they were used last.
        let is_server = is_server && self.cluster.is_none();
        if is_server && !is_idle && self.processes[process].runs() && self.quiet_since(process) < now() {
            self.offence(format!("process {process} gives up a connection although nothing is wrong"));
        }
    }

    /// The open connections of a process that its program has not closed.
    pub fn connections_of(&self, process: usize) -> Vec<ConnectionId> {
        let open = |(id, one): (&ConnectionId, &Connection)| {
            (one.process == process && !one.is_closed && one.state == State::Open).then_some(*id)
        };
        self.connections.iter().filter_map(open).collect()
    }

    /// Nothing of the process's connections comes through before a moment.
    pub fn stall(&mut self, process: usize, to: Side, until: Time) {
        for id in self.connections_of(process) {
            let pipe = self.connections.get_mut(&id).unwrap().pipe(to);
            pipe.stalled_until = pipe.stalled_until.max(until);
        }
    }

    /// Cuts a connection. `is_seen`: the client finds it reset; else it hears nothing any more, until its system gives
    /// up. `heard`: when the server hears of it; `None`: never.
    pub fn cut(&mut self, id: ConnectionId, is_seen: bool, fate: Fate, heard: Option<Time>) {
        let length = self.random.usize(..);
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let (to_server, to_client) = (&mut connection.to_server, &mut connection.to_client);
        match fate {
            Fate::Lost => to_server.parts.clear(),
            Fate::Partial => {
                to_server.parts.truncate(1);
                if let Some((_, Part::Bytes(bytes))) = to_server.parts.front_mut() {
                    let length = length % (bytes.len() + 1);
                    bytes.truncate(length);
                }
            }
            Fate::Late(by) => {
                to_server.stalled_until = to_server.stalled_until.max(now() + by);
            }
        }
        to_server.is_dead = true;
        let heard = heard.map(|heard| to_server.last.max(now() + heard));
        if let Some(at) = heard {
            to_server.parts.push_back((at, Part::HangUp(io::ErrorKind::ConnectionReset)));
        }
        to_client.parts.clear();
        to_client.is_dead = true;
        let seen = if is_seen { now() } else { now() + GIVES_UP };
        to_client.parts.push_back((seen, Part::HangUp(io::ErrorKind::ConnectionReset)));
        self.schedule(seen, Occurrence::Arrival(id, Side::Client));
        if let Some(at) = heard {
            self.schedule(at, Occurrence::Arrival(id, Side::Server));
        }
    }

    /// The server's process is gone: its system resets its connections, or is gone too and says nothing.
    pub fn server_gone(&mut self, node: usize, silent: bool) {
        let of_node = |(id, one): (&ConnectionId, &Connection)| (one.node == Some(node)).then_some(*id);
        for id in self.connections.iter().filter_map(of_node).collect::<Vec<_>>() {
            let connection = self.connections.get_mut(&id).unwrap();
            if connection.state == State::Connecting {
                continue;
            }
            connection.client = None;
            connection.to_client.parts.clear();
            if connection.is_closed {
                self.connections.remove(&id);
            } else if !silent {
                self.reset(id);
            }
        }
    }
}

/// For how long a connection is not used at least before it is closed: as documented, where other credentials were used
/// since.
const IDLE: Time = 3_000;

/// How long a system goes on sending to who does not answer, by the keepalive that the package asks for.
pub const GIVES_UP: Time = 55_000;

impl Connection {
    pub fn new(process: usize, who: Who) -> Self {
        Self {
            process,
            node: if let Who::Server(node) = who { Some(node) } else { None },
            is_refused: who == Who::Refuses,
            client: None,
            state: State::Connecting,
            received: VecDeque::new(),
            reader: None,
            to_server: Pipe::default(),
            to_client: Pipe::default(),
            used: None,
            is_closed: false,
        }
    }

    fn pipe(&mut self, to: Side) -> &mut Pipe {
        match to {
            Side::Client => &mut self.to_client,
            Side::Server => &mut self.to_server,
        }
    }
}

pub fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// How many commands these bytes begin.
fn commands_in(bytes: &[u8]) -> u64 {
    let starts = bytes.windows(3).filter(|window| window.starts_with(b"\r\n*")).count();
    starts as u64 + u64::from(bytes.starts_with(b"*"))
}

/// Bytes of the wire on one line.
fn shown(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).replace("\r\n", " ").trim_end().to_owned()
}
