//! The one connection that all calls to an endpoint share: whether it is up, and what it reports.
//! [`super::pipeline`] gives it up when the server hangs.
//! [`connecting`] makes it when somebody needs it.

mod connecting;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashSet};
use std::future::pending;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use redis::{PushInfo, PushKind, Value};
use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use crate::connection::cluster::breaker::NODE_BACK;
use crate::connection::open::Opened;
use crate::connection::pipeline::Pipeline;
use crate::model::endpoint::Endpoint;
use crate::model::error::Error;
use crate::model::refusal::Class;
use crate::protocol::command::text_of;
use crate::runtime::task::{spawn, spawn_boxed};
use crate::time::backoff::Backoff;

pub use connecting::Patience;
use connecting::is_timeout;

/// How long a server that is no longer the master has to reply to the commands in flight.
const DRAIN_LIMIT: Duration = Duration::from_millis(250);

/// A connection that was up for this long was stable: the next one is made without backing off.
const STABLE: Duration = Duration::from_secs(1);

/// What a supervisor reports.
#[derive(Clone, Debug)]
pub enum News {
    /// The connection came up.
    Up,
    /// The connection broke.
    Down,
    /// The connection broke, and the first attempt to make a new one has failed.
    Failing(Error),
    /// The server reports that a watched key has changed, or that it has stopped watching it.
    Changed(String),
    /// Every key may have changed.
    AllChanged,
    /// A node of a cluster can be connected to again.
    NodeBack,
}

type Watcher = Box<dyn Fn(&News)>;
type Need = Box<dyn Fn(u32) -> Option<Duration>>;

enum State {
    /// There is no connection. The next attempt begins at `retry_at` at the earliest.
    Down { retry_at: Instant },
    /// The connection is up.
    Up(Rc<Pipeline>),
}

/// The shared connection of one endpoint.
///
/// While somebody needs the connection and it is not up, one task tries to connect. All others wait to be notified: a
/// hundred thousand waiters are woken at the end of an outage, and not by each attempt that fails.
pub struct Supervisor {
    /// The redis that it connects to.
    pub endpoint: Arc<Endpoint>,
    state: RefCell<State>,
    /// The task that connects, while there is one.
    connector: RefCell<Option<JoinHandle<()>>>,
    /// The connect timeouts of those who wait for the connection, each with their number.
    connect_timeouts: RefCell<BTreeMap<Duration, usize>>,
    /// Notified when the connection comes up, and when an attempt fails for good.
    settled: Notify,
    /// Notified at the end of each attempt.
    attempted: Notify,
    backoff: Cell<Backoff>,
    /// The failure of the last attempt. The number of attempts tells a waiter which failures are news.
    failure: RefCell<Option<Error>>,
    attempts: Cell<u64>,
    /// How many attempts have timed out since the connection was last up.
    timeouts: Cell<u32>,
    generation: Cell<u64>,
    /// When the last connection that broke was last used.
    used: Cell<Instant>,
    /// Why the server does not report changes of keys, if it does not and that has not been told yet.
    why_no_pushes: RefCell<Option<String>>,
    /// The reasons that have been told.
    reasons_told: RefCell<HashSet<String>>,
    /// Gets the news.
    watcher: RefCell<Option<Watcher>>,
    /// Says whether the connection is needed while no call waits for it, and then how long an attempt may take after so
    /// many that have timed out.
    need: RefCell<Option<Need>>,
}

impl Supervisor {
    /// A supervisor without a connection. Opens nothing.
    #[must_use]
    pub fn new(endpoint: Arc<Endpoint>) -> Rc<Self> {
        Rc::new(Self {
            endpoint,
            state: RefCell::new(State::Down { retry_at: Instant::now() }),
            connector: RefCell::default(),
            connect_timeouts: RefCell::default(),
            settled: Notify::new(),
            attempted: Notify::new(),
            backoff: Cell::default(),
            failure: RefCell::default(),
            attempts: Cell::new(0),
            timeouts: Cell::new(0),
            generation: Cell::new(0),
            used: Cell::new(Instant::now()),
            why_no_pushes: RefCell::default(),
            reasons_told: RefCell::default(),
            watcher: RefCell::default(),
            need: RefCell::default(),
        })
    }

    /// Sets who gets the news. `need` says whether the connection is needed while no call waits for it, and then how
    /// long an attempt may take after so many that have timed out.
    pub fn watch(&self, watcher: impl Fn(&News) + 'static, need: impl Fn(u32) -> Option<Duration> + 'static) {
        *self.watcher.borrow_mut() = Some(Box::new(watcher));
        *self.need.borrow_mut() = Some(Box::new(need));
    }

    /// The connection, if it is up now.
    #[must_use]
    pub fn current(&self) -> Option<Rc<Pipeline>> {
        match &*self.state.borrow() {
            State::Up(pipeline) => Some(Rc::clone(pipeline)),
            State::Down { .. } => None,
        }
    }

    /// When the connection was last used; without one, when the last one was.
    #[must_use]
    pub fn last_used(&self) -> Instant {
        self.current().map_or(self.used.get(), |pipeline| pipeline.last_used())
    }

    /// True while it is up and no command is queued or in flight.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.current().is_some_and(|pipeline| pipeline.is_quiet())
    }

    /// True if there ever was a connection: then an outage is worth waiting for.
    #[must_use]
    pub fn has_stood(&self) -> bool {
        self.generation.get() > 0
    }

    /// Why the server does not report changes of keys. Each reason is returned once.
    #[must_use]
    pub fn take_why_no_pushes(&self) -> Option<String> {
        self.why_no_pushes.borrow_mut().take()
    }

    /// Notes that the server refuses to report changes of keys after all.
    pub fn set_why_no_pushes(&self, pipeline: &Pipeline, reason: String) {
        if pipeline.tells_changes.replace(false) {
            self.note_why_no_pushes(reason);
        }
    }

    fn note_why_no_pushes(&self, reason: String) {
        if self.reasons_told.borrow_mut().insert(reason.clone()) {
            *self.why_no_pushes.borrow_mut() = Some(reason);
        }
    }

    /// The failure of the last attempt; `None` while the connection is up.
    #[must_use]
    pub fn failure(&self) -> Option<Error> {
        self.failure.borrow().clone()
    }

    /// Closes the connection, if it is up. The next call makes another.
    pub fn close(&self) {
        if let Some(pipeline) = self.current() {
            pipeline.close();
        }
    }

    /// Drops a connection, if it is still the current one, when its server is of no use: it was demoted, or is full.
    /// The next attempt looks up the address again.
    pub fn leave_if_useless(self: &Rc<Self>, pipeline: &Rc<Pipeline>, error: &Error) {
        // It is not closed: it ends after the replies to the commands in flight. The nodes of a cluster are dropped one
        // by one, by the engine.
        if error.class() == Class::Reconnect && pipeline.keeps_order() {
            self.broke(pipeline.generation);
        }
    }

    fn came_up(self: &Rc<Self>, opened: Opened) {
        let generation = self.generation.get() + 1;
        self.generation.set(generation);
        let mut driver = spawn_boxed(opened.driver);
        let tells_changes = opened.pushes.is_ok();
        let pipeline = Pipeline::new(
            generation,
            opened.identity,
            tells_changes,
            opened.transport,
            driver.abort_handle(),
        );
        let listening = match opened.pushes {
            Ok(pushes) => self.listen(pushes),
            Err(reason) => {
                self.note_why_no_pushes(reason);
                spawn(async {})
            }
        };
        let supervisor: Weak<Self> = Rc::downgrade(self);
        spawn(async move {
            let moved = opened.moved.unwrap_or_else(|| Box::pin(pending()));
            let has_moved = tokio::select! {
                biased;
                // The listener panicked, so nobody would hear of changes any more. Make a new connection.
                Err(_) = listening => {
                    driver.abort();
                    false
                }
                // Ends with the connection, when it is closed from here, and by a panic.
                _ = &mut driver => false,
                () = moved => true,
            };
            if let Some(supervisor) = supervisor.upgrade() {
                supervisor.broke(generation);
            }
            // A server that still answers has replied to the commands in flight by then.
            if has_moved && timeout(DRAIN_LIMIT, &mut driver).await.is_err() {
                driver.abort();
            }
        });
        fail_point!("came up", self.endpoint.to_string());
        *self.failure.borrow_mut() = None;
        self.timeouts.set(0);
        *self.state.borrow_mut() = State::Up(Rc::new(pipeline));
        self.settled.notify_waiters();
        self.attempted.notify_waiters();
        self.tell(&News::Up);
    }

    fn failed(&self, error: Error) {
        let before = self.failure.replace(Some(error.clone()));
        self.go_down();
        self.attempts.set(self.attempts.get() + 1);
        if is_timeout(&error) {
            self.timeouts.set(self.timeouts.get().saturating_add(1));
        }
        if matches!(error.class(), Class::Denied | Class::Final) {
            self.settled.notify_waiters();
        }
        self.attempted.notify_waiters();
        if before.is_none() && self.has_stood() {
            self.tell(&News::Failing(error));
        }
    }

    fn broke(self: &Rc<Self>, generation: u64) {
        let Some(pipeline) = self.current().filter(|pipeline| pipeline.generation == generation) else {
            return;
        };
        self.used.set(pipeline.last_used());
        // After a stable connection the next attempt is made at once. One that breaks soon counts as a failed attempt.
        if pipeline.since.elapsed() >= STABLE {
            self.backoff.set(Backoff::default());
            *self.state.borrow_mut() = State::Down { retry_at: Instant::now() };
        } else {
            self.go_down();
        }
        self.tell(&News::Down);
        if self.attempt_limit().is_some() {
            self.connect();
        }
    }

    fn go_down(&self) {
        let mut backoff = self.backoff.get();
        let delay = backoff.next_delay();
        self.backoff.set(backoff);
        *self.state.borrow_mut() = State::Down { retry_at: Instant::now() + delay };
    }

    /// A panic of the receiver does not affect the connection.
    fn tell(&self, news: &News) {
        if let Some(watcher) = &*self.watcher.borrow() {
            drop(catch_unwind(AssertUnwindSafe(|| watcher(news))));
        }
    }

    /// Reports which keys have changed, until the connection ends.
    fn listen(self: &Rc<Self>, mut pushes: UnboundedReceiver<PushInfo>) -> JoinHandle<()> {
        let supervisor: Weak<Self> = Rc::downgrade(self);
        spawn(async move {
            while let Some(push) = pushes.recv().await {
                let Some(supervisor) = supervisor.upgrade() else { return };
                fail_point!("listen", supervisor.endpoint.to_string());
                match push.kind {
                    PushKind::Invalidate => {}
                    // A node of a cluster is gone, and its reports of changes with it.
                    PushKind::Disconnection if supervisor.endpoint.is_cluster() => {
                        supervisor.tell(&News::AllChanged);
                        continue;
                    }
                    PushKind::Other(kind) if kind == NODE_BACK => {
                        supervisor.tell(&News::NodeBack);
                        continue;
                    }
                    _ => continue,
                }
                for part in push.data {
                    match part {
                        Value::Array(keys) => {
                            keys.iter()
                                .filter_map(text_of)
                                .for_each(|key| supervisor.tell(&News::Changed(key)));
                        }
                        // FLUSHALL or FLUSHDB.
                        _ => supervisor.tell(&News::AllChanged),
                    }
                }
            }
        })
    }
}
