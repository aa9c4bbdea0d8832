//! The one connection that all calls to an endpoint share: made when it is needed, made again when it breaks.

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
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use crate::backoff::Backoff;
use crate::command::text_of;
use crate::endpoint::Endpoint;
use crate::error::{Class, Error};
use crate::guard::keep_running;
use crate::live::Live;
use crate::opening::{self, Opened};

/// How long a refused or unresolvable connection is retried for a call: the budget that 0.4.0 had.
const REFUSED_BUDGET: Duration = Duration::from_millis(500);

/// How long a server that is no longer the master has for what was sent to it before that was known.
const LAST_ANSWERS: Duration = Duration::from_millis(250);

/// A connection that lived this long was a good one.
const STEADY: Duration = Duration::from_secs(1);

/// For how long somebody waits for a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// Until a call's budget is used up, or the failure is one that waiting does not mend.
    Call,
    /// For ever, unless the credentials are refused.
    Outage,
    /// For ever, whatever happens: something is to be undone.
    Endless,
}

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
}

type Watcher = Box<dyn Fn(&News)>;
type Need = Box<dyn Fn() -> Option<Duration>>;

enum State {
    /// No connection, and no attempt at one before `retry_at`.
    Down { retry_at: Instant },
    /// Up.
    Up(Rc<Live>),
}

/// The shared connection of one endpoint.
///
/// One task connects, for as long as somebody wants the connection and it is not up. Whoever wants it waits to be told;
/// a hundred thousand who outlast an outage are told of its end, and not of each attempt that fails.
pub struct Link {
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

/// Somebody wants the connection, until this is dropped.
struct Want<'link> {
    link: &'link Link,
    connect_timeout: Duration,
}

impl Drop for Want<'_> {
    fn drop(&mut self) {
        let mut wants = self.link.wants.borrow_mut();
        if let Some(count) = wants.get_mut(&self.connect_timeout) {
            *count -= 1;
            if *count == 0 {
                wants.remove(&self.connect_timeout);
            }
        }
    }
}

impl Link {
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
    pub fn current(&self) -> Option<Rc<Live>> {
        match &*self.state.borrow() {
            State::Up(live) => Some(Rc::clone(live)),
            State::Down { .. } => None,
        }
    }

    /// When the connection was last used, or given up.
    #[must_use]
    pub fn last_used(&self) -> Instant {
        self.current().map_or(self.used.get(), |live| live.last_used())
    }

    /// True while it is up and nothing is under way on it.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.current().is_some_and(|live| live.is_quiet())
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
    pub fn set_why_no_pushes(&self, live: &Live, reason: String) {
        if live.tells_changes.replace(false) {
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

    /// The connection, made if need be. `connect_timeout` limits one attempt, and a call's whole wait for an attempt
    /// that is merely pending.
    ///
    /// # Errors
    /// Why there is none, once `patience` is over.
    pub async fn live(
        self: &Rc<Self>,
        patience: Patience,
        connect_timeout: Duration,
    ) -> Result<Rc<Live>, Error> {
        match self.current() {
            Some(live) => Ok(live),
            // In a box of its own, so that the many calls which find the connection up carry no room for this.
            None => Box::pin(self.bring_up(patience, connect_timeout)).await,
        }
    }

    async fn bring_up(
        self: &Rc<Self>,
        patience: Patience,
        connect_timeout: Duration,
    ) -> Result<Rc<Live>, Error> {
        let asked = Instant::now();
        let before = self.attempts.get();
        let mut seen = before;
        let _want = self.want(connect_timeout);
        loop {
            let (settled, attempted) = (self.settled.notified(), self.attempted.notified());
            if let Some(live) = self.current() {
                return Ok(live);
            }
            if self.attempts.get() != seen {
                seen = self.attempts.get();
                if let Some(failure) = self.failure()
                    && is_final(&failure, patience, asked.elapsed(), connect_timeout)
                {
                    return Err(failure);
                }
            }
            if patience != Patience::Call {
                settled.await;
            } else if timeout_at(asked + connect_timeout, attempted).await.is_err() {
                // What an attempt of this call has met says more than that the next one is pending.
                let failure = self.failure().filter(|_| self.attempts.get() != before);
                return Err(failure.unwrap_or_else(|| opening::not_within(&self.endpoint, connect_timeout)));
            }
        }
    }

    fn want(self: &Rc<Self>, connect_timeout: Duration) -> Want<'_> {
        *self.wants.borrow_mut().entry(connect_timeout).or_default() += 1;
        self.connect();
        Want { link: self, connect_timeout }
    }

    /// How long an attempt may take, while somebody wants the connection.
    fn wanted(&self) -> Option<Duration> {
        let waited_for = self.wants.borrow().keys().next().copied();
        let needed = self.need.borrow().as_ref().and_then(|need| need());
        match (waited_for, needed) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        }
    }

    /// Sees to it that somebody connects.
    fn connect(self: &Rc<Self>) {
        let mut connector = self.connector.borrow_mut();
        if connector.as_ref().is_none_or(JoinHandle::is_finished) {
            let link = Rc::clone(self);
            *connector = Some(keep_running(move || Rc::clone(&link).connect_while_wanted()));
        }
    }

    async fn connect_while_wanted(self: Rc<Self>) {
        while let Some(retry_at) = self.retry_at() {
            sleep_until(retry_at).await;
            let Some(limit) = self.wanted() else { return };
            let endpoint = Arc::clone(&self.endpoint);
            let opening = spawn_local(async move {
                fail_point!("connect", endpoint.to_string());
                opening::open(&endpoint, limit).await
            });
            match opening.await {
                Ok(Ok(opened)) => self.came_up(opened),
                Ok(Err(error)) => self.failed(error),
                Err(panic) => self.failed(Error::Internal(panic.to_string())),
            }
        }
    }

    /// When the next attempt may begin, while it is down.
    fn retry_at(&self) -> Option<Instant> {
        match &*self.state.borrow() {
            State::Down { retry_at } => Some(*retry_at),
            State::Up(_) => None,
        }
    }

    /// Closes the connection, if it is up. The next use makes another.
    pub fn close(&self) {
        if let Some(live) = self.current() {
            live.close();
        }
    }

    /// Leaves a connection whose server is of no use (demoted, or without room for us), if it is still the same one. The
    /// next attempt looks up the name again.
    pub fn leave_if_useless(self: &Rc<Self>, live: &Rc<Live>, error: &Error) {
        // It is not closed: it ends when the last of the commands that are under way on it has its answer.
        // A cluster's nodes are left one by one, by its engine.
        if error.class() == Class::Reconnect && live.keeps_order() {
            self.broke(live.generation);
        }
    }

    fn came_up(self: &Rc<Self>, opened: Opened) {
        let generation = self.generation.get() + 1;
        self.generation.set(generation);
        let mut driver = spawn_local(opened.driver);
        let tells_changes = opened.pushes.is_ok();
        let live = Live::new(generation, opened.identity, tells_changes, opened.wire, driver.abort_handle());
        let listening = match opened.pushes {
            Ok(pushes) => self.listen(pushes),
            Err(reason) => {
                self.note_why_no_pushes(reason);
                spawn_local(async {})
            }
        };
        let link: Weak<Self> = Rc::downgrade(self);
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
            if let Some(link) = link.upgrade() {
                link.broke(generation);
            }
            // What is under way at a server that still answers has its answer by then.
            if has_moved && timeout(LAST_ANSWERS, &mut driver).await.is_err() {
                driver.abort();
            }
        });
        fail_point!("came up", self.endpoint.to_string());
        *self.failure.borrow_mut() = None;
        *self.state.borrow_mut() = State::Up(Rc::new(live));
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
        let Some(live) = self.current().filter(|live| live.generation == generation) else {
            return;
        };
        self.used.set(live.last_used());
        // A connection that stood for a while is made again at once; one that breaks as soon as it is made is like
        // one that is refused.
        if live.since.elapsed() >= STEADY {
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
        let link: Weak<Self> = Rc::downgrade(self);
        spawn_local(async move {
            while let Some(push) = pushes.recv().await {
                let Some(link) = link.upgrade() else { return };
                fail_point!("listen", link.endpoint.to_string());
                match push.kind {
                    PushKind::Invalidate => {}
                    // A node of a cluster: what it was to tell of, it will not.
                    PushKind::Disconnection if link.endpoint.is_cluster() => {
                        link.tell(&News::AllChanged);
                        continue;
                    }
                    _ => continue,
                }
                for part in push.data {
                    match part {
                        Value::Array(keys) => {
                            keys.iter().filter_map(text_of).for_each(|key| link.tell(&News::Changed(key)));
                        }
                        // FLUSHALL and FLUSHDB.
                        _ => link.tell(&News::AllChanged),
                    }
                }
            }
        })
    }
}

/// Whether a failed attempt ends the wait of somebody who has waited for `waited`.
fn is_final(failure: &Error, patience: Patience, waited: Duration, connect_timeout: Duration) -> bool {
    match (patience, failure) {
        // A panic is none of redis's: the next attempt may well succeed.
        (Patience::Endless, _) | (Patience::Outage, Error::Internal(_)) => false,
        (_, failure) if matches!(failure.class(), Class::Denied | Class::Final) => true,
        (Patience::Outage, _) => false,
        // The attempt may have been somebody else's, and older.
        (Patience::Call, Error::Connection { reason: "ETIMEDOUT", .. }) => waited >= connect_timeout,
        (Patience::Call, _) => waited >= REFUSED_BUDGET,
    }
}
