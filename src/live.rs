//! One connection that is up: commands of one turn leave as one pipeline, every command has a limit, and a
//! connection that has gone silent is given up.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use redis::{Cmd, ServerError, Value};
use tokio::sync::oneshot;
use tokio::task::{AbortHandle, unconstrained};
use tokio::time::{Instant, timeout, timeout_at};

use crate::cluster::Failure;
use crate::command::{Comparison, Identity, Script, ScriptCall, comparison_of};
use crate::error::{Error, is_wrong_type};
use crate::outbox::{Entry, LARGEST_BATCH, Lane, MOST_UNDER_WAY, Outbox};
use crate::settings::Settings;
use crate::wire::Wire;

/// A timer that rings this much after its time was kept from it.
const LATE: Duration = Duration::from_millis(20);

/// How long an answer that may already be there is then waited for.
const GRACE: Duration = Duration::from_millis(100);

/// Why a command has no reply that could be used.
#[derive(Clone, Debug)]
pub enum Trouble {
    /// An error reply.
    Refused(ServerError),
    /// The connection broke; whether the command ran is unknown.
    Dropped,
    /// It was not sent: the node of a cluster that would serve it cannot be reached, for this reason.
    Unsent(String),
    /// No reply in time; the command may still run.
    TimedOut,
}

impl Trouble {
    /// The trouble as an error that names what was tried.
    #[must_use]
    pub fn to_error(&self, settings: &Settings, command: &'static str, key: &str) -> Error {
        let (endpoint, key) = (Arc::clone(&settings.endpoint), key.to_owned());
        match self {
            Self::Refused(error) => Error::from_reply(&endpoint, command, &key, error),
            Self::Dropped => Error::Dropped { endpoint, command, key },
            Self::Unsent(reason) => {
                let detail = format!("{command} of {key}: {reason}");
                Error::Connection { endpoint, detail, reason: "ECONNREFUSED" }
            }
            Self::TimedOut => {
                // One limit for a call, however many commands it took.
                let after_ms = settings.command_timeout.as_millis();
                Error::Timeout { endpoint, command, key, after_ms, consequence: "" }
            }
        }
    }
}

type Reply = oneshot::Sender<Result<Value, Trouble>>;

/// A reply that is on its way. The command has been handed in; dropping this forgets the reply, not the command.
#[derive(Debug)]
pub struct Pending {
    reply: oneshot::Receiver<Result<Value, Trouble>>,
    sent: Instant,
}

/// A connection that is up, shared by all calls to its endpoint.
pub struct Live {
    /// Counts the connections of an endpoint, so that a reply's owner knows whether it is still the same one.
    pub generation: u64,
    /// What the server knows it by.
    pub identity: Option<Identity>,
    /// When it came up.
    pub since: Instant,
    /// The server tells when a watched key changes. Turned off where it turns out to refuse.
    pub tells_changes: Cell<bool>,
    wire: Wire,
    /// What was handed in and is not written yet.
    outbox: RefCell<Outbox<Reply>>,
    flush_is_due: Cell<bool>,
    /// How many commands are written and not answered.
    under_way: Cell<usize>,
    /// When the last reply came: a command that timed out since then was not the only one to wait.
    heard: Cell<Instant>,
    /// Aborting the task that moves the bytes closes the socket.
    driver: AbortHandle,
}

impl Live {
    /// Wraps a connection whose driver is running.
    #[must_use]
    pub fn new(
        generation: u64,
        identity: Option<Identity>,
        tells_changes: bool,
        wire: Wire,
        driver: AbortHandle,
    ) -> Self {
        Self {
            generation,
            identity,
            since: Instant::now(),
            tells_changes: Cell::new(tells_changes),
            wire,
            outbox: RefCell::default(),
            flush_is_due: Cell::new(false),
            under_way: Cell::new(0),
            heard: Cell::new(Instant::now()),
            driver,
        }
    }

    /// Hands in a command. It is written before this turn of the runtime ends, with all others of the turn, unless so
    /// much is under way that it waits for its lane's turn.
    pub fn send(self: &Rc<Self>, lane: Lane, command: Cmd) -> Pending {
        let (sender, reply) = oneshot::channel();
        self.outbox.borrow_mut().push(lane, command, sender);
        self.see_to_flush();
        Pending { reply, sent: Instant::now() }
    }

    fn see_to_flush(self: &Rc<Self>) {
        if !self.flush_is_due.replace(true) {
            let live = Rc::clone(self);
            // Unconstrained: a turn that has done much would be told to come back later, and out of order.
            tokio::task::spawn_local(unconstrained(async move { live.flush() }));
        }
    }

    /// The reply to a command, within `limit` of its having been handed in.
    ///
    /// # Errors
    /// The refusal, or why there is no reply.
    pub async fn reply(&self, pending: Pending, limit: Duration) -> Result<Value, Trouble> {
        let Pending { mut reply, sent } = pending;
        let end = sent + limit;
        let mut answer = timeout_at(end, &mut reply).await;
        // A timer that rings late says that this process was stopped, or starved, and nothing about redis: its answer
        // may lie in the socket, where nobody had the time to read it.
        if answer.is_err() && end.elapsed() > LATE {
            answer = timeout(GRACE, &mut reply).await;
        }
        match answer {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(Trouble::Dropped),
            Err(_) => {
                self.suspect(end, limit);
                Err(Trouble::TimedOut)
            }
        }
    }

    /// Sends a command and waits for its reply.
    ///
    /// # Errors
    /// The refusal, or why there is no reply.
    pub async fn ask(self: &Rc<Self>, command: Cmd, limit: Duration) -> Result<Value, Trouble> {
        let pending = self.send(Lane::Regular, command);
        self.reply(pending, limit).await
    }

    /// Runs a script and says what it found.
    ///
    /// # Errors
    /// The refusal, or why there is no reply.
    pub async fn compare(
        self: &Rc<Self>,
        lane: Lane,
        script: &Script,
        call: &ScriptCall,
        limit: Duration,
    ) -> Result<Comparison, Trouble> {
        let pending = self.send(lane, script.by_hash(call));
        self.compared(pending, script, call, limit).await
    }

    /// What a script found that was already sent by its hash. One that the server has forgotten is sent again whole.
    ///
    /// # Errors
    /// The refusal, or why there is no reply.
    pub async fn compared(
        self: &Rc<Self>,
        pending: Pending,
        script: &Script,
        call: &ScriptCall,
        limit: Duration,
    ) -> Result<Comparison, Trouble> {
        let reply = match self.reply(pending, limit).await {
            Err(Trouble::Refused(error)) if error.kind() == Some(redis::ServerErrorKind::NoScript) => {
                Box::pin(self.ask(script.by_source(call), limit)).await
            }
            reply => reply,
        };
        match reply {
            Ok(value) => comparison_of(&value).ok_or_else(|| self.is_garbled()),
            // A key that is no string is somebody else's.
            Err(Trouble::Refused(error)) if is_wrong_type(&error) => Ok(Comparison::Other(None)),
            Err(trouble) => Err(trouble),
        }
    }

    /// A reply came that nobody sends: bytes were lost or changed on the way, and whose reply any of the next ones is, is
    /// unknown. The connection is given up; what was asked is as open as where no reply came.
    pub fn is_garbled(&self) -> Trouble {
        self.close();
        Trouble::Dropped
    }

    /// True where all commands go to one server, which answers them in order. Nothing that was sent before can run after
    /// what is sent now.
    #[must_use]
    pub fn keeps_order(&self) -> bool {
        !self.wire.parts_batches()
    }

    /// Ends the connection. Commands that are under way are answered with [`Trouble::Dropped`].
    pub fn close(&self) {
        self.driver.abort();
    }

    /// A command has timed out at `end`, after `limit`. If nothing was heard for the second half of that time, the server
    /// hangs, or the link is dead without having been closed, or a reply was lost and each one is taken for that of
    /// another: every command is better off on another connection.
    fn suspect(&self, end: Instant, limit: Duration) {
        if self.heard.get() + limit / 2 < end {
            self.close();
        }
    }

    fn flush(self: &Rc<Self>) {
        self.flush_is_due.set(false);
        while self.under_way.get() < MOST_UNDER_WAY {
            let batch = self.outbox.borrow_mut().take(LARGEST_BATCH, |reply| !reply.is_closed());
            if batch.is_empty() {
                return;
            }
            self.under_way.set(self.under_way.get() + batch.len());
            if self.wire.parts_batches() {
                for unit in units_of(batch) {
                    self.hand_in(unit);
                }
            } else {
                self.hand_in(batch);
            }
        }
    }

    /// Hands in commands here and now, so that they leave in the order in which they came; their replies are waited for
    /// in a task of their own. There is always room (`HAND_IN_ROOM`), so the first poll hands in.
    fn hand_in(self: &Rc<Self>, batch: Vec<Entry<Reply>>) {
        let live = Rc::clone(self);
        let mut exchange = Box::pin(async move {
            let size = batch.len();
            live.exchange(batch).await;
            live.under_way.set(live.under_way.get() - size);
            if !live.outbox.borrow().is_empty() {
                live.see_to_flush();
            }
        });
        if exchange.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {
            tokio::task::spawn_local(exchange);
        }
    }

    async fn exchange(&self, batch: Vec<Entry<Reply>>) {
        let (commands, replies): (Vec<_>, Vec<_>) =
            batch.into_iter().map(|entry| (entry.command, entry.reply)).unzip();
        let trouble = match self.wire.send(commands).await {
            Ok(values) => {
                self.heard.set(Instant::now());
                for (reply, value) in replies.into_iter().zip(values) {
                    // A receiver that is gone has given up waiting.
                    let _ = reply.send(match value {
                        Value::ServerError(error) => Err(Trouble::Refused(error)),
                        value => Ok(value),
                    });
                }
                return;
            }
            Err(Failure::Lost) => Trouble::Dropped,
            Err(Failure::Refused(error)) => Trouble::Refused(error),
            Err(Failure::Unsent(reason)) => Trouble::Unsent(reason),
        };
        for reply in replies {
            let _ = reply.send(Err(trouble.clone()));
        }
    }
}

/// Parts a batch into what must not be parted.
fn units_of(batch: Vec<Entry<Reply>>) -> Vec<Vec<Entry<Reply>>> {
    let mut units: Vec<Vec<Entry<Reply>>> = Vec::with_capacity(batch.len());
    for entry in batch {
        match units.last_mut() {
            Some(unit) if entry.is_joined => unit.push(entry),
            _ => units.push(vec![entry]),
        }
    }
    units
}

impl Drop for Live {
    fn drop(&mut self) {
        self.driver.abort();
    }
}
