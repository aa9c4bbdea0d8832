//! Attempts to connect: how long they take, and who accepts.

use std::io;
use std::net::SocketAddr;

use super::network::{Connection, ConnectionId, State, wake};
use super::world::{Occurrence, World, now};

impl World {
    /// A process begins to connect.
    pub fn begin_connect(&mut self, process: usize, address: SocketAddr) -> ConnectionId {
        self.last_connection += 1;
        self.counts.connections += 1;
        let id = self.last_connection;
        let begun = self.processes[process].connect();
        self.counts.most_connects = self.counts.most_connects.max(begun);
        let most = self.story.most_connects_a_second();
        if begun == most + 1 {
            self.offence(format!("process {process} begins more than {most} connections in a second"));
        }
        let who = self.who_is_at(address);
        self.connections.insert(id, Connection::new(process, who));
        self.trace(|_| format!("process {process} connects to {address}: connection {id}"));
        let answered = now() + self.delay(process) + self.delay(process);
        self.schedule(answered, Occurrence::Connect(id));
        id
    }

    /// An attempt to connect reaches its end.
    pub fn connected(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get(&id) else { return };
        let link = &self.processes[connection.process].link;
        if link.unreachable_until > now() {
            // The system tries again, and again.
            let again = link.unreachable_until + 1_000;
            return self.schedule(again, Occurrence::Connect(id));
        }
        if connection.is_refused {
            return self.end_client(id, io::ErrorKind::ConnectionRefused);
        }
        // Nobody answers at an address where nobody is.
        let Some(node) = connection.node else { return };
        if let Some(silent) = self.nodes[node].down {
            if silent {
                return self.schedule(now() + 1_000, Occurrence::Connect(id));
            }
            return self.end_client(id, io::ErrorKind::ConnectionRefused);
        }
        let address = format!("10.1.0.{}:{}", connection.process, 10_000 + id);
        // The system accepts, also for a server that hangs.
        let client = self.nodes[node].accept(&address, id);
        let connection = self.connections.get_mut(&id).unwrap();
        connection.client = Some(client);
        connection.state = State::Open;
        wake(connection.reader.take());
        self.flush(node);
    }
}
