//! The one connection that all calls to an endpoint share: made when it is needed, made again when it breaks.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::future::pending;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use redis::{PushInfo, PushKind, Value};
use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Instant, timeout, timeout_at};

use crate::backoff::Backoff;
use crate::command::text_of;
use crate::endpoint::Endpoint;
use crate::error::{Class, Error};
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
    /// For ever, whatever happens: something is to be settled, or a lease to be kept.
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

enum State {
    /// No connection, and no attempt at one before `retry_at`.
    Down { retry_at: Instant },
    /// An attempt is under way.
    Connecting,
    /// Up.
    Up(Rc<Live>),
}

/// The shared connection of one endpoint.
pub struct Link {
    /// Where it leads.
    pub endpoint: Arc<Endpoint>,
    state: RefCell<State>,
    /// Told of every change of `state`.
    changed: Notify,
    backoff: Cell<Backoff>,
    /// The last attempt's failure and the number of attempts, so that a waiter knows which failures are news.
    failure: RefCell<Option<Error>>,
    attempts: Cell<u64>,
    generation: Cell<u64>,
    /// Why the server does not tell of changed keys, if it does not and nobody has been told.
    why_no_pushes: RefCell<Option<String>>,
    /// The reasons that somebody has been told.
    reasons_told: RefCell<HashSet<String>>,
    /// Who is told the news.
    watcher: RefCell<Option<Watcher>>,
}

impl Link {
    /// A link that opens nothing yet.
    #[must_use]
    pub fn new(endpoint: Arc<Endpoint>) -> Rc<Self> {
        Rc::new(Self {
            endpoint,
            state: RefCell::new(State::Down { retry_at: Instant::now() }),
            changed: Notify::new(),
            backoff: Cell::default(),
            failure: RefCell::default(),
            attempts: Cell::new(0),
            generation: Cell::new(0),
            why_no_pushes: RefCell::default(),
            reasons_told: RefCell::default(),
            watcher: RefCell::default(),
        })
    }

    /// Sets who is told the news.
    pub fn watch(&self, watcher: impl Fn(&News) + 'static) {
        *self.watcher.borrow_mut() = Some(Box::new(watcher));
    }

    /// The connection, if it is up now.
    #[must_use]
    pub fn current(&self) -> Option<Rc<Live>> {
        match &*self.state.borrow() {
            State::Up(live) => Some(Rc::clone(live)),
            _ => None,
        }
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
        loop {
            let changed = self.changed.notified();
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
            let pause = match &*self.state.borrow() {
                State::Down { retry_at } => Some(*retry_at),
                _ => None,
            };
            match pause {
                Some(retry_at) if retry_at > Instant::now() => drop(timeout_at(retry_at, changed).await),
                Some(_) => self.attempt(connect_timeout),
                None if patience == Patience::Call => {
                    if timeout_at(asked + connect_timeout, changed).await.is_err() {
                        // What an attempt of this call has met says more than that the next one is pending.
                        let failure = self.failure().filter(|_| self.attempts.get() != before);
                        return Err(
                            failure.unwrap_or_else(|| opening::not_within(&self.endpoint, connect_timeout))
                        );
                    }
                }
                None => changed.await,
            }
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
    pub fn leave_if_useless(&self, live: &Rc<Live>, error: &Error) {
        // It is not closed: it ends when the last of the commands that are under way on it has its answer.
        // A cluster's nodes are left one by one, by its engine.
        if error.class() == Class::Reconnect && live.keeps_order() {
            self.broke(live.generation);
        }
    }

    fn attempt(self: &Rc<Self>, connect_timeout: Duration) {
        *self.state.borrow_mut() = State::Connecting;
        let link = Rc::clone(self);
        tokio::task::spawn_local(async move {
            let result = opening::open(&link.endpoint, connect_timeout).await;
            match result {
                Ok(opened) => link.came_up(opened),
                Err(error) => link.failed(error),
            }
        });
    }

    fn came_up(self: &Rc<Self>, opened: Opened) {
        let generation = self.generation.get() + 1;
        self.generation.set(generation);
        let mut driver = tokio::task::spawn_local(opened.driver);
        let tells_changes = opened.pushes.is_ok();
        let live = Live::new(generation, opened.identity, tells_changes, opened.wire, driver.abort_handle());
        match opened.pushes {
            Ok(pushes) => self.listen(pushes),
            Err(reason) => self.note_why_no_pushes(reason),
        }
        let link: Weak<Self> = Rc::downgrade(self);
        tokio::task::spawn_local(async move {
            let moved = opened.moved.unwrap_or_else(|| Box::pin(pending()));
            let has_moved = tokio::select! {
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
        *self.failure.borrow_mut() = None;
        *self.state.borrow_mut() = State::Up(Rc::new(live));
        self.tell(&News::Up);
    }

    fn failed(&self, error: Error) {
        let before = self.failure.replace(Some(error.clone()));
        self.go_down();
        self.attempts.set(self.attempts.get() + 1);
        if before.is_none() && self.has_stood() {
            self.tell(&News::Failing(error));
        } else {
            self.changed.notify_waiters();
        }
    }

    fn broke(&self, generation: u64) {
        let Some(live) = self.current().filter(|live| live.generation == generation) else {
            return;
        };
        // A connection that stood for a while is made again at once; one that breaks as soon as it is made is like
        // one that is refused.
        if live.since.elapsed() >= STEADY {
            self.backoff.set(Backoff::default());
            *self.state.borrow_mut() = State::Down { retry_at: Instant::now() };
        } else {
            self.go_down();
        }
        self.tell(&News::Down);
    }

    fn go_down(&self) {
        let mut backoff = self.backoff.get();
        let delay = backoff.next_delay();
        self.backoff.set(backoff);
        *self.state.borrow_mut() = State::Down { retry_at: Instant::now() + delay };
    }

    fn tell(&self, news: &News) {
        self.changed.notify_waiters();
        if let Some(watcher) = &*self.watcher.borrow() {
            watcher(news);
        }
    }

    /// Passes on which keys have changed, for as long as the connection lives.
    fn listen(self: &Rc<Self>, mut pushes: UnboundedReceiver<PushInfo>) {
        let link: Weak<Self> = Rc::downgrade(self);
        tokio::task::spawn_local(async move {
            while let Some(push) = pushes.recv().await {
                let Some(link) = link.upgrade() else { return };
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
        });
    }
}

/// Whether a failed attempt ends the wait of somebody who has waited for `waited`.
fn is_final(failure: &Error, patience: Patience, waited: Duration, connect_timeout: Duration) -> bool {
    match (patience, failure) {
        (Patience::Endless, _) => false,
        (_, failure) if matches!(failure.class(), Class::Denied | Class::Final) => true,
        (Patience::Outage, _) => false,
        // The attempt may have been somebody else's, and older.
        (Patience::Call, Error::Connection { reason: "ETIMEDOUT", .. }) => waited >= connect_timeout,
        (Patience::Call, _) => waited >= REFUSED_BUDGET,
    }
}
