//! The connection to one node of a cluster: what is under way on it, and whether the node has gone silent.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{Cmd, RedisResult, Value};
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};

use crate::connection::handshake::Connected;
use crate::connection::send_queue::MOST_UNDER_WAY;
use crate::time::clock::Moment;

/// A node that owes an answer for this long is asked for a sign of life.
pub const SILENCE: Duration = Duration::from_secs(1);

/// How long it has for the sign.
const LAST_WORD: Duration = Duration::from_millis(250);

/// How many commands may be under way at one node: a quarter of those of the whole cluster, so that three nodes that hang
/// leave room for the others.
const MOST_AT_ONE_NODE: usize = MOST_UNDER_WAY / 4;

/// Why a node has not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unanswered {
    /// Nothing was sent: the connection is of no use any more.
    Closed,
    /// Nothing was sent: as much is under way as may be.
    Full,
    /// It was sent, and the answer will never come.
    Lost,
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The node closed it, or it broke.
    Closed,
    /// The node is silent, so it is given up.
    Silent,
    /// Nobody holds it any more.
    Unused,
}

/// A connection to a node. Clones share it; it is closed with the last of them.
#[derive(Clone)]
pub struct Node {
    connection: MultiplexedConnection,
    health: Arc<Health>,
    hold: Arc<watch::Sender<()>>,
}

/// A [`Node`] without a hold on it.
pub struct WeakNode {
    connection: MultiplexedConnection,
    health: Arc<Health>,
    hold: Weak<watch::Sender<()>>,
}

/// Moves the bytes of a connection and watches over it. Dropping it closes the socket.
pub struct Life {
    driver: Pin<Box<dyn Future<Output = ()> + Send>>,
    connection: MultiplexedConnection,
    health: Arc<Health>,
    holds: watch::Receiver<()>,
}

#[derive(Default)]
struct Health {
    /// It broke or was given up: nothing is sent on it any more.
    is_closed: AtomicBool,
    /// How many commands somebody waits for.
    under_way: AtomicUsize,
    /// Since when the node owes an answer and has said nothing, as [`Moment::to_bits`]. Means nothing while no command is
    /// under way.
    owed_since: AtomicU64,
    /// Rung when it begins to owe one.
    owes: Notify,
}

impl Node {
    /// A node, and what has to be run for it.
    #[must_use]
    pub fn new(Connected { connection, driver, .. }: Connected) -> (Self, Life) {
        let health = Arc::<Health>::default();
        let (hold, holds) = watch::channel(());
        let life = Life { driver, connection: connection.clone(), health: Arc::clone(&health), holds };
        (Self { connection, health, hold: Arc::new(hold) }, life)
    }

    /// It, without a hold on it.
    #[must_use]
    pub fn downgrade(&self) -> WeakNode {
        let (connection, health) = (self.connection.clone(), Arc::clone(&self.health));
        WeakNode { connection, health, hold: Arc::downgrade(&self.hold) }
    }

    /// False once it broke or was given up.
    #[must_use]
    pub fn is_open(&self) -> bool {
        !self.health.is_closed.load(Ordering::Relaxed)
    }

    /// True for two clones of one.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.health, &other.health)
    }

    /// For how long the node has owed an answer and said nothing.
    #[must_use]
    pub fn owed_for(&self) -> Duration {
        self.health.owed_since().map_or(Duration::ZERO, |since| since.until(Moment::now()))
    }

    /// Sends commands in one write and waits for their replies.
    ///
    /// # Errors
    /// Why there are none.
    pub async fn send(&self, commands: &redis::Pipeline, count: usize) -> Result<Vec<Value>, Unanswered> {
        if self.health.under_way.load(Ordering::Relaxed) >= MOST_AT_ONE_NODE {
            return Err(Unanswered::Full);
        }
        let place = self.place(count)?;
        place.answered(self.connection.clone().send_packed_commands(commands, 0, count).await)
    }

    /// Asks what changes nothing, for [`SILENCE`] at most.
    ///
    /// # Errors
    /// Why there is no answer.
    pub async fn ask(&self, question: &Cmd) -> Result<Value, Unanswered> {
        let place = self.place(1)?;
        let mut connection = self.connection.clone();
        match timeout(SILENCE, connection.send_packed_command(question)).await {
            Ok(answer) => place.answered(answer),
            Err(_) => Err(Unanswered::Lost),
        }
    }

    fn place(&self, count: usize) -> Result<Place<'_>, Unanswered> {
        if !self.is_open() {
            return Err(Unanswered::Closed);
        }
        if self.health.under_way.fetch_add(count, Ordering::Relaxed) == 0 {
            self.health.heard();
            self.health.owes.notify_one();
        }
        Ok(Place { health: &self.health, count })
    }
}

impl WeakNode {
    /// The node, if somebody holds it and it is open.
    #[must_use]
    pub fn upgrade(&self) -> Option<Node> {
        let hold = self.hold.upgrade()?;
        let node = Node { connection: self.connection.clone(), health: Arc::clone(&self.health), hold };
        node.is_open().then_some(node)
    }
}

/// Commands that are under way, until this is dropped.
struct Place<'node> {
    health: &'node Health,
    count: usize,
}

impl Place<'_> {
    fn answered<Reply>(self, answer: RedisResult<Reply>) -> Result<Reply, Unanswered> {
        self.health.heard();
        answer.map_err(|_| {
            self.health.is_closed.store(true, Ordering::Relaxed);
            Unanswered::Lost
        })
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.health.under_way.fetch_sub(self.count, Ordering::Relaxed);
    }
}

impl Life {
    /// Lives until the connection ends, and says how it did. What was under way is answered with [`Unanswered::Lost`].
    pub async fn end(mut self) -> End {
        let end = tokio::select! {
            () = &mut self.driver => End::Closed,
            () = self.health.silence(self.connection.clone()) => End::Silent,
            // Only ever an error: the last hold is gone.
            _ = self.holds.changed() => End::Unused,
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
        let is_owed = self.under_way.load(Ordering::Relaxed) > 0;
        is_owed.then(|| Moment::from_bits(self.owed_since.load(Ordering::Relaxed)))
    }

    fn heard(&self) {
        self.owed_since.store(Moment::now().to_bits(), Ordering::Relaxed);
    }

    /// Ends once the node has owed an answer for [`SILENCE`] and gives no sign of life either.
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
            // Or it is this process that was stopped, and the answer lies in the socket.
            let ping = redis::cmd("PING");
            if !matches!(timeout(LAST_WORD, connection.send_packed_command(&ping)).await, Ok(Ok(_))) {
                return;
            }
            self.heard();
        }
    }
}
