//! The one connection that all calls to an endpoint share: up or down, what it tells of itself, and when it is given up.
//! It is made when somebody wants it ([`connecting`]).

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
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::{Instant, timeout};

use crate::connection::cluster::breaker::NODE_BACK;
use crate::connection::open::Opened;
use crate::connection::pipeline::Pipeline;
use crate::model::endpoint::Endpoint;
use crate::model::error::Error;
use crate::model::refusal::Class;
use crate::protocol::command::text_of;
use crate::time::backoff::Backoff;

pub use connecting::Patience;

/// How long a server that is no longer the master has for what was sent to it before that was known.
const LAST_ANSWERS: Duration = Duration::from_millis(250);

/// A connection that lived this long was a good one.
const STEADY: Duration = Duration::from_secs(1);

/// What a link tells of itself.
#[derive(Clone, Debug)]
pub enum News {
    /// The connection came up.
    Up,
    /// It broke.
    Down,
    /// It broke, and the first attempt to mend it has failed.
    Failing(Error),
    /// A watched key has changed, or the server has stopped watching it.
    Changed(String),
    /// Every key may have changed.
    AllChanged,
    /// A node of a cluster is back that could not be connected to.
    NodeBack,
}

type Watcher = Box<dyn Fn(&News)>;
type Need = Box<dyn Fn() -> Option<Duration>>;

enum State {
    /// No connection, and no attempt at one before `retry_at`.
    Down { retry_at: Instant },
    /// Up.
    Up(Rc<Pipeline>),
}

/// The shared connection of one endpoint.
///
/// One task connects, for as long as somebody wants the connection and it is not up. Whoever wants it waits to be told;
/// a hundred thousand who outlast an outage are told of its end, and not of each attempt that fails.
pub struct Supervisor {
    /// Where it leads.
    pub endpoint: Arc<Endpoint>,
    state: RefCell<State>,
    /// The task that connects, while there is one.
    connector: RefCell<Option<JoinHandle<()>>>,
    /// Who wants the connection: how many, by how long their attempts may take.
    wants: RefCell<BTreeMap<Duration, usize>>,
    /// Told when it is up, and of a failure that no waiting mends.
    settled: Notify,
    /// Told whenever an attempt has ended.
    attempted: Notify,
    backoff: Cell<Backoff>,
    /// The last attempt's failure and the number of attempts, so that a waiter knows which failures are news.
    failure: RefCell<Option<Error>>,
    attempts: Cell<u64>,
    generation: Cell<u64>,
    /// When the last connection that was up was last used.
    used: Cell<Instant>,
    /// Why the server does not tell of changed keys, if it does not and nobody has been told.
    why_no_pushes: RefCell<Option<String>>,
    /// The reasons that somebody has been told.
    reasons_told: RefCell<HashSet<String>>,
    /// Who is told the news.
    watcher: RefCell<Option<Watcher>>,
    /// Says how long an attempt may take for what needs the connection without anybody waiting for it.
    need: RefCell<Option<Need>>,
}

impl Supervisor {
    /// A link that opens nothing yet.
    #[must_use]
    pub fn new(endpoint: Arc<Endpoint>) -> Rc<Self> {
        Rc::new(Self {
            endpoint,
            state: RefCell::new(State::Down { retry_at: Instant::now() }),
            connector: RefCell::default(),
            wants: RefCell::default(),
            settled: Notify::new(),
            attempted: Notify::new(),
            backoff: Cell::default(),
            failure: RefCell::default(),
            attempts: Cell::new(0),
            generation: Cell::new(0),
            used: Cell::new(Instant::now()),
            why_no_pushes: RefCell::default(),
            reasons_told: RefCell::default(),
            watcher: RefCell::default(),
            need: RefCell::default(),
        })
    }

    /// Sets who is told the news, and what says whether the connection is needed though nobody waits for it: then, how
    /// long an attempt may take.
    pub fn watch(&self, watcher: impl Fn(&News) + 'static, need: impl Fn() -> Option<Duration> + 'static) {
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

    /// When the connection was last used, or given up.
    #[must_use]
    pub fn last_used(&self) -> Instant {
        self.current().map_or(self.used.get(), |pipeline| pipeline.last_used())
    }

    /// True while it is up and nothing is under way on it.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.current().is_some_and(|pipeline| pipeline.is_quiet())
    }

    /// True once a connection has stood: an outage since then is worth waiting for.
    #[must_use]
    pub fn has_stood(&self) -> bool {
        self.generation.get() > 0
    }

    /// Why the server does not tell of changed keys, the first time that this is asked of a reason.
    #[must_use]
    pub fn take_why_no_pushes(&self) -> Option<String> {
        self.why_no_pushes.borrow_mut().take()
    }

    /// Notes that the server refuses to tell of changed keys after all.
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

    /// The failure of the last attempt, while there is no connection.
    #[must_use]
    pub fn failure(&self) -> Option<Error> {
        self.failure.borrow().clone()
    }

    /// Closes the connection, if it is up. The next use makes another.
    pub fn close(&self) {
        if let Some(pipeline) = self.current() {
            pipeline.close();
        }
    }

    /// Leaves a connection whose server is of no use (demoted, or without room for us), if it is still the same one. The
    /// next attempt looks up the name again.
    pub fn leave_if_useless(self: &Rc<Self>, pipeline: &Rc<Pipeline>, error: &Error) {
        // It is not closed: it ends when the last of the commands that are under way on it has its answer.
        // A cluster's nodes are left one by one, by its engine.
        if error.class() == Class::Reconnect && pipeline.keeps_order() {
            self.broke(pipeline.generation);
        }
    }

    fn came_up(self: &Rc<Self>, opened: Opened) {
        let generation = self.generation.get() + 1;
        self.generation.set(generation);
        let mut driver = spawn_local(opened.driver);
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
                spawn_local(async {})
            }
        };
        let supervisor: Weak<Self> = Rc::downgrade(self);
        spawn_local(async move {
            let moved = opened.moved.unwrap_or_else(|| Box::pin(pending()));
            let has_moved = tokio::select! {
                // A panic: nobody would be told of changes any more. The next connection begins anew.
                Err(_) = listening => {
                    driver.abort();
                    false
                }
                // Ends when the connection does, and when it is closed from here; a panic in it ends it too.
                _ = &mut driver => false,
                () = moved => true,
            };
            if let Some(supervisor) = supervisor.upgrade() {
                supervisor.broke(generation);
            }
            // What is under way at a server that still answers has its answer by then.
            if has_moved && timeout(LAST_ANSWERS, &mut driver).await.is_err() {
                driver.abort();
            }
        });
        fail_point!("came up", self.endpoint.to_string());
        *self.failure.borrow_mut() = None;
        *self.state.borrow_mut() = State::Up(Rc::new(pipeline));
        self.settled.notify_waiters();
        self.attempted.notify_waiters();
        self.tell(&News::Up);
    }

    fn failed(&self, error: Error) {
        let before = self.failure.replace(Some(error.clone()));
        self.go_down();
        self.attempts.set(self.attempts.get() + 1);
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
        // A connection that stood for a while is made again at once; one that breaks as soon as it is made is like
        // one that is refused.
        if pipeline.since.elapsed() >= STEADY {
            self.backoff.set(Backoff::default());
            *self.state.borrow_mut() = State::Down { retry_at: Instant::now() };
        } else {
            self.go_down();
        }
        self.tell(&News::Down);
        if self.wanted().is_some() {
            self.connect();
        }
    }

    fn go_down(&self) {
        let mut backoff = self.backoff.get();
        let delay = backoff.next_delay();
        self.backoff.set(backoff);
        *self.state.borrow_mut() = State::Down { retry_at: Instant::now() + delay };
    }

    /// A panic of whoever is told is not one of the connection.
    fn tell(&self, news: &News) {
        if let Some(watcher) = &*self.watcher.borrow() {
            drop(catch_unwind(AssertUnwindSafe(|| watcher(news))));
        }
    }

    /// Passes on which keys have changed, for as long as the connection lives.
    fn listen(self: &Rc<Self>, mut pushes: UnboundedReceiver<PushInfo>) -> JoinHandle<()> {
        let supervisor: Weak<Self> = Rc::downgrade(self);
        spawn_local(async move {
            while let Some(push) = pushes.recv().await {
                let Some(supervisor) = supervisor.upgrade() else { return };
                fail_point!("listen", supervisor.endpoint.to_string());
                match push.kind {
                    PushKind::Invalidate => {}
                    // A node of a cluster: what it was to tell of, it will not.
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
                        // FLUSHALL and FLUSHDB.
                        _ => supervisor.tell(&News::AllChanged),
                    }
                }
            }
        })
    }
}
