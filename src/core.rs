//! The one thread that owns every lock of the process: takes requests in, hands each to the part that serves it.

use std::cell::{Cell, RefCell};
use std::future::pending;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rustc_hash::FxHashMap;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;
use tokio::task::LocalSet;
use tokio::time::{Instant, sleep_until};

use crate::acquire;
use crate::client::Client;
use crate::endpoint::{Endpoint, Place};
use crate::error::Error;
use crate::guard::keep_running;
use crate::heartbeat::{self, Renewal};
use crate::holding::{Asked, Holding};
use crate::link::News;
use crate::outlet::{Answer, CallFailure, Loss, Ticket};
use crate::release;
use crate::releases::Releases;
use crate::settings::Settings;
use crate::undo;
use crate::waiting;

/// The most requests that are taken in before their commands are written.
const LARGEST_TURN: usize = 512;

/// The most releases of one call that are under way at once.
const MOST_AT_ONCE: usize = 4_000;

/// How long a connection that nothing needs is kept for the next call.
const LONGEST_IDLE: Duration = Duration::from_secs(60);

/// The same, where the process has logged in to the same place in another way since: a password that rotates leaves one
/// connection, not a trail of them.
const LONGEST_SUPERSEDED: Duration = Duration::from_secs(3);

/// Between two looks for what nothing needs.
const SWEEP: Duration = Duration::from_secs(1);

/// What the core is asked to do.
pub enum Request {
    /// One attempt at a lock.
    Lock {
        /// Whom to answer.
        ticket: Ticket,
        /// With what.
        settings: Arc<Settings>,
        /// On what.
        resource: String,
    },
    /// Wait for a lock.
    Wait {
        /// Whom to answer.
        ticket: Ticket,
        /// Of which instance.
        instance: u32,
        /// With what.
        settings: Arc<Settings>,
        /// On what.
        resource: String,
        /// For how long; `None` is for ever.
        timeout: Option<Duration>,
    },
    /// A waiter leaves.
    CancelWait {
        /// What it waits with.
        settings: Arc<Settings>,
        /// What it waits for.
        resource: String,
        /// Its environment.
        environment: u64,
        /// Its call.
        call: u64,
    },
    /// Give these back.
    Release {
        /// Whom to answer.
        ticket: Ticket,
        /// What is this request's to release.
        holdings: Vec<Arc<Holding>>,
        /// What was lost before, and is this release's to tell.
        losses: Vec<Loss>,
    },
    /// Renew these now.
    Renew {
        /// Whom to answer.
        ticket: Ticket,
        /// What.
        holdings: Vec<Arc<Holding>>,
        /// For how long.
        ttl: Duration,
    },
    /// Close the connection of an endpoint, if nothing needs it.
    Disconnect {
        /// Whom to answer.
        ticket: Ticket,
        /// Which.
        endpoint: Arc<Endpoint>,
    },
    /// An environment has ended: nothing of it is renewed or waits any more.
    Leave {
        /// Which.
        environment: u64,
    },
}

impl Request {
    /// Gives these back. Called on the thread of their caller, where it is decided who ends each of them and who tells of
    /// those that are lost.
    #[must_use]
    pub fn release(ticket: Ticket, asked: Vec<Arc<Holding>>) -> Self {
        let (mut holdings, mut losses) = (Vec::with_capacity(asked.len()), Vec::new());
        for holding in asked {
            match holding.ask_release() {
                Asked::Release => holdings.push(holding),
                Asked::Lost => losses.push(Loss::of(holding)),
                Asked::Nothing => {}
            }
        }
        Self::Release { ticket, holdings, losses }
    }
}

/// Where requests go in. Cheap to clone, usable from any thread.
#[derive(Clone)]
pub struct Core {
    requests: UnboundedSender<Request>,
}

impl Core {
    /// Starts the thread. It lives as long as the process.
    ///
    /// # Errors
    /// Where the system gives no thread, or no way to wait for sockets.
    pub fn start() -> std::io::Result<Self> {
        let (requests, receiver) = unbounded_channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new().name("redis-reservation".into()).spawn(move || {
            LocalSet::new().block_on(&runtime, Desk::default().serve(receiver));
        })?;
        Ok(Self { requests })
    }

    /// Hands in a request. Never blocks.
    pub fn submit(&self, request: Request) {
        // The receiver lives as long as its thread. Should that ever have ended, the request comes back and is
        // dropped here, and its ticket answers with an internal error.
        drop(self.requests.send(request));
    }
}

#[derive(Default)]
struct Desk {
    /// By the address of their endpoint, of which there is one copy in the process.
    clients: RefCell<FxHashMap<*const Endpoint, Rc<Client>>>,
    /// When it is looked for what nothing needs; `None` while there is nothing.
    next_sweep: Cell<Option<Instant>>,
}

impl Desk {
    async fn serve(self, mut receiver: UnboundedReceiver<Request>) {
        let desk = Rc::new(self);
        let mut requests = Vec::with_capacity(LARGEST_TURN);
        loop {
            let sweep = async {
                match desk.next_sweep.get() {
                    Some(when) => sleep_until(when).await,
                    None => pending().await,
                }
            };
            tokio::select! {
                biased;
                count = receiver.recv_many(&mut requests, LARGEST_TURN) => if count == 0 { return },
                () = sweep => desk.sweep(),
            }
            for request in requests.drain(..) {
                // A panic is one request's. Its ticket answers when it is dropped.
                drop(catch_unwind(AssertUnwindSafe(|| desk.handle(request))));
            }
        }
    }

    /// Closes connections that nothing has needed for a while, and forgets endpoints that nobody knows any more.
    fn sweep(&self) {
        let mut clients = self.clients.borrow_mut();
        let mut latest: FxHashMap<&Place, Instant> = FxHashMap::default();
        for client in clients.values() {
            let used = client.link.last_used();
            let latest = latest.entry(&client.link.endpoint.place).or_insert(used);
            *latest = used.max(*latest);
        }
        let idle: Vec<_> = clients
            .values()
            .filter(|client| is_idle(client, latest[&client.link.endpoint.place]))
            .map(Rc::clone)
            .collect();
        for client in idle {
            client.link.close();
        }
        // Nothing is under way for one that is only here, and no call can come for an endpoint that is only there.
        clients.retain(|_, client| {
            Rc::strong_count(client) > 1
                || client.needs_connection()
                || client.link.current().is_some()
                || Arc::strong_count(&client.link.endpoint) > 1
        });
        self.next_sweep.set((!clients.is_empty()).then(|| Instant::now() + SWEEP));
    }

    fn handle(self: &Rc<Self>, request: Request) {
        match request {
            Request::Lock { ticket, settings, resource } => {
                fail_point!("dispatcher", &resource);
                let client = self.client(&settings.endpoint);
                acquire::lock(&client, ticket, settings, &resource);
            }
            Request::Wait { ticket, instance, settings, resource, timeout } => {
                let client = self.client(&settings.endpoint);
                waiting::wait(&client, ticket, instance, settings, &resource, timeout);
            }
            Request::CancelWait { settings, resource, environment, call } => {
                let key = settings.key_of(&resource);
                waiting::cancel(&self.client(&settings.endpoint), key, environment, call);
            }
            Request::Release { ticket, holdings, losses } => {
                self.release(ticket, holdings, Releases::telling(losses));
            }
            Request::Renew { ticket, holdings, ttl } => {
                tokio::task::spawn_local(Rc::clone(self).renew(ticket, holdings, ttl));
            }
            Request::Disconnect { ticket, endpoint } => {
                for client in self.clients.borrow().values() {
                    if client.link.endpoint.is_same_redis(&endpoint) && !client.needs_connection() {
                        client.link.close();
                    }
                }
                ticket.answer(Ok(Answer::Disconnected));
            }
            Request::Leave { environment } => {
                for client in self.clients.borrow().values() {
                    release::forget_environment(client, environment);
                    waiting::forget_environment(client, environment);
                }
            }
        }
    }

    /// The client of an endpoint, made at its first use.
    fn client(&self, endpoint: &Arc<Endpoint>) -> Rc<Client> {
        if let Some(client) = self.clients.borrow().get(&Arc::as_ptr(endpoint)) {
            return Rc::clone(client);
        }
        let client = Client::new(Arc::clone(endpoint));
        let (watched, needed) = (Rc::downgrade(&client), Rc::downgrade(&client));
        let watch = move |news: &News| {
            let Some(client) = watched.upgrade() else { return };
            match news {
                News::Up => {
                    heartbeat::validate_all(&client);
                    client.all_changed();
                }
                News::Failing(error) => waiting::tell_outage(&client, error),
                News::Changed(key) => client.changed(key),
                News::Down | News::AllChanged => client.all_changed(),
            }
        };
        client.link.watch(watch, move || needed.upgrade()?.mending_limit());
        let (weak, bell) = (Rc::downgrade(&client), Rc::clone(&client.earlier));
        keep_running(move || heartbeat::beat(weak.clone(), Rc::clone(&bell)));
        let (weak, bell) = (Rc::downgrade(&client), client.undo.bell());
        keep_running(move || undo::serve(weak.clone(), Rc::clone(&bell)));
        self.clients.borrow_mut().insert(Arc::as_ptr(endpoint), Rc::clone(&client));
        if self.next_sweep.get().is_none() {
            self.next_sweep.set(Some(Instant::now() + SWEEP));
        }
        client
    }

    fn release(self: &Rc<Self>, ticket: Ticket, holdings: Vec<Arc<Holding>>, releases: Releases) {
        if holdings.len() <= MOST_AT_ONCE {
            let done = |releases: Releases| ticket.answer(releases.into_answer());
            self.release_some(&holdings, releases, done);
            return;
        }
        let desk = Rc::clone(self);
        tokio::task::spawn_local(async move {
            let mut releases = releases;
            // In parts, so that what else is to be done has a turn between them.
            for part in holdings.chunks(MOST_AT_ONCE) {
                let (sender, done) = oneshot::channel();
                desk.release_some(part, releases, |releases| drop(sender.send(releases)));
                // It is sent when the last share is gone, whatever becomes of each.
                releases = done.await.unwrap_or_default();
            }
            ticket.answer(releases.into_answer());
        });
    }

    /// Releases these, adds what became of them to `releases`, and hands that to `done`.
    fn release_some(
        &self,
        holdings: &[Arc<Holding>],
        releases: Releases,
        done: impl FnOnce(Releases) + 'static,
    ) {
        for (holding, share) in holdings.iter().zip(releases.shares(holdings.len(), done)) {
            let client = self.client(&holding.settings().endpoint);
            release::release(&client, Arc::clone(holding), move |outcome| share.tell(outcome));
        }
    }

    async fn renew(self: Rc<Self>, ticket: Ticket, holdings: Vec<Arc<Holding>>, ttl: Duration) {
        let mut tasks = Vec::with_capacity(holdings.len());
        for holding in &holdings {
            let client = self.client(&holding.settings().endpoint);
            let id = holding.id;
            tasks.push(tokio::task::spawn_local(async move { heartbeat::renew_now(&client, id, ttl).await }));
        }
        let mut is_any_renewed = false;
        let mut losses: Vec<Loss> = Vec::new();
        let mut failure = None;
        for task in tasks {
            match task.await {
                Ok(Ok(Renewal::Renewed)) => is_any_renewed = true,
                Ok(Ok(Renewal::NotHeld)) => {}
                Ok(Ok(Renewal::Lost(loss))) => losses.push(loss),
                Ok(Err(error)) => {
                    failure.get_or_insert(error);
                }
                Err(panic) => {
                    failure.get_or_insert(Error::Internal(panic.to_string()));
                }
            }
        }
        ticket.answer(match (losses.first().map(Loss::to_error), failure) {
            (None, None) if is_any_renewed => Ok(Answer::Renewed),
            (None, None) => Err(Error::NotHeld.into()),
            (Some(error), _) | (None, Some(error)) => {
                Err(Box::new(CallFailure { error, lost: losses, released: None, failed: Vec::new() }))
            }
        });
    }
}

/// True for a connection that is up, that nothing needs, and that was not used for long. `latest` is when any connection
/// to the same place was.
fn is_idle(client: &Client, latest: Instant) -> bool {
    let used = client.link.last_used();
    let longest = if latest > used { LONGEST_SUPERSEDED } else { LONGEST_IDLE };
    client.link.is_quiet() && !client.needs_connection() && used.elapsed() > longest
}
