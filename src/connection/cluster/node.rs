//! The connection to one node of a cluster: what is in flight on it, and whether the node has gone silent.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{Cmd, RedisResult, Value};
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};

use crate::connection::handshake::Connected;
use crate::connection::send_queue::MAX_IN_FLIGHT;
use crate::time::clock::Moment;

/// A node that has sent nothing for this long, with commands in flight, is sent a PING.
pub const SILENCE: Duration = Duration::from_secs(1);

/// How long it has to answer the PING.
const PING_LIMIT: Duration = Duration::from_millis(250);

/// How many commands may be in flight at one node: a quarter of what may be in flight at the whole cluster. So three
/// nodes that hang leave room for the others.
const MAX_AT_ONE_NODE: usize = MAX_IN_FLIGHT / 4;

/// Why a node did not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unanswered {
    /// Nothing was sent: the connection is closed.
    Closed,
    /// Nothing was sent: too much is in flight.
    Full,
    /// It was sent, and the reply will never come.
    Lost,
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The node closed it, or it broke.
    Closed,
    /// The node is silent, so it was given up.
    Silent,
    /// Nobody uses it any more.
    Unused,
}

/// A connection to a node. Clones share it. It is closed when the last is dropped.
#[derive(Clone)]
pub struct Node {
    connection: MultiplexedConnection,
    health: Arc<Health>,
    in_use: Arc<watch::Sender<()>>,
}

/// A weak reference to a [`Node`].
pub struct WeakNode {
    connection: MultiplexedConnection,
    health: Arc<Health>,
    in_use: Weak<watch::Sender<()>>,
}

/// Moves the bytes of a connection and watches over it. Dropping it closes the socket.
pub struct Life {
    driver: Pin<Box<dyn Future<Output = ()> + Send>>,
    connection: MultiplexedConnection,
    health: Arc<Health>,
    unused: watch::Receiver<()>,
}

#[derive(Default)]
struct Health {
    /// The connection broke or was given up: nothing more is sent.
    is_closed: AtomicBool,
    /// How many commands are in flight.
    in_flight: AtomicUsize,
    /// When the node was last heard, or began to owe a reply, as [`Moment::to_bits`]. Only valid while a command is in
    /// flight.
    owed_since: AtomicU64,
    /// Notified when the first command is in flight.
    owes: Notify,
}

impl Node {
    /// A node, and the task that must run for it.
    #[must_use]
    pub fn new(Connected { connection, driver, .. }: Connected) -> (Self, Life) {
        let health = Arc::<Health>::default();
        let (in_use, unused) = watch::channel(());
        let life = Life { driver, connection: connection.clone(), health: Arc::clone(&health), unused };
        (Self { connection, health, in_use: Arc::new(in_use) }, life)
    }

    /// A weak reference to it.
    #[must_use]
    pub fn downgrade(&self) -> WeakNode {
        let (connection, health) = (self.connection.clone(), Arc::clone(&self.health));
        WeakNode { connection, health, in_use: Arc::downgrade(&self.in_use) }
    }

    /// False if the connection broke or was given up.
    #[must_use]
    pub fn is_open(&self) -> bool {
        !self.health.is_closed.load(Ordering::Relaxed)
    }

    /// True if both are clones of one node.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.health, &other.health)
    }

    /// How long the node has sent nothing with commands in flight.
    #[must_use]
    pub fn owed_for(&self) -> Duration {
        self.health.owed_since().map_or(Duration::ZERO, |since| since.until(Moment::now()))
    }

    /// Sends commands in one write and waits for their replies.
    ///
    /// # Errors
    /// Why there are none.
    pub async fn send(&self, commands: &redis::Pipeline, count: usize) -> Result<Vec<Value>, Unanswered> {
        if self.health.in_flight.load(Ordering::Relaxed) >= MAX_AT_ONE_NODE {
            return Err(Unanswered::Full);
        }
        let in_flight = self.begin(count)?;
        in_flight.answered(self.connection.clone().send_packed_commands(commands, 0, count).await)
    }

    /// Asks a question that changes nothing, with a limit of [`SILENCE`].
    ///
    /// # Errors
    /// Why there is no answer.
    pub async fn ask(&self, question: &Cmd) -> Result<Value, Unanswered> {
        let in_flight = self.begin(1)?;
        let mut connection = self.connection.clone();
        match timeout(SILENCE, connection.send_packed_command(question)).await {
            Ok(answer) => in_flight.answered(answer),
            Err(_) => Err(Unanswered::Lost),
        }
    }

    fn begin(&self, count: usize) -> Result<InFlight<'_>, Unanswered> {
        if !self.is_open() {
            return Err(Unanswered::Closed);
        }
        if self.health.in_flight.fetch_add(count, Ordering::Relaxed) == 0 {
            self.health.heard();
            self.health.owes.notify_one();
        }
        Ok(InFlight { health: &self.health, count })
    }
}

impl WeakNode {
    /// The node, if it is in use and open.
    #[must_use]
    pub fn upgrade(&self) -> Option<Node> {
        let in_use = self.in_use.upgrade()?;
        let node = Node { connection: self.connection.clone(), health: Arc::clone(&self.health), in_use };
        node.is_open().then_some(node)
    }
}

/// Commands in flight, until this is dropped.
struct InFlight<'node> {
    health: &'node Health,
    count: usize,
}

impl InFlight<'_> {
    fn answered<Reply>(self, answer: RedisResult<Reply>) -> Result<Reply, Unanswered> {
        self.health.heard();
        answer.map_err(|_| {
            self.health.is_closed.store(true, Ordering::Relaxed);
            Unanswered::Lost
        })
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.health.in_flight.fetch_sub(self.count, Ordering::Relaxed);
    }
}

impl Life {
    /// Runs until the connection ends, and returns why. Commands in flight are answered with [`Unanswered::Lost`].
    pub async fn end(mut self) -> End {
        let end = tokio::select! {
            biased;
            () = &mut self.driver => End::Closed,
            () = self.health.silence(self.connection.clone()) => End::Silent,
            // Always an error: the last clone was dropped.
            _ = self.unused.changed() => End::Unused,
        };
        self.health.is_closed.store(true, Ordering::Relaxed);
        end
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        self.health.is_closed.store(true, Ordering::Relaxed);
    }
}

impl Health {
    fn owed_since(&self) -> Option<Moment> {
        let is_owed = self.in_flight.load(Ordering::Relaxed) > 0;
        is_owed.then(|| Moment::from_bits(self.owed_since.load(Ordering::Relaxed)))
    }

    fn heard(&self) {
        self.owed_since.store(Moment::now().to_bits(), Ordering::Relaxed);
    }

    /// Ends when the node has owed a reply for [`SILENCE`] and does not answer a PING either.
    async fn silence(&self, mut connection: MultiplexedConnection) {
        loop {
            let Some(since) = self.owed_since() else {
                self.owes.notified().await;
                continue;
            };
            let left = Moment::now().until(since.after(SILENCE));
            if !left.is_zero() {
                sleep(left).await;
                continue;
            }
            // If this process was stopped, the reply may be in the socket. The PING comes after it.
            let ping = redis::cmd("PING");
            if !matches!(timeout(PING_LIMIT, connection.send_packed_command(&ping)).await, Ok(Ok(_))) {
                return;
            }
            self.heard();
        }
    }
}
