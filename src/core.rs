//! The one thread that owns every lock of the process: takes requests in, hands each to the part that serves it.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rustc_hash::FxHashMap;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;
use tokio::task::LocalSet;

use crate::acquire;
use crate::client::Client;
use crate::endpoint::Endpoint;
use crate::error::Error;
use crate::heartbeat;
use crate::holding::Holding;
use crate::link::{News, Patience};
use crate::outlet::{Answer, CallFailure, Loss, Ticket};
use crate::release;
use crate::releases::Releases;
use crate::settings::Settings;
use crate::waiting;

/// The most requests that are taken in before their commands are written.
const LARGEST_TURN: usize = 512;

/// The most releases of one call that are under way at once.
const MOST_AT_ONCE: usize = 4_000;

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
        /// What.
        holdings: Vec<Arc<Holding>>,
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
}

impl Desk {
    async fn serve(self, mut receiver: UnboundedReceiver<Request>) {
        let desk = Rc::new(self);
        let mut requests = Vec::with_capacity(LARGEST_TURN);
        while receiver.recv_many(&mut requests, LARGEST_TURN).await > 0 {
            for request in requests.drain(..) {
                desk.handle(request);
            }
        }
    }

    fn handle(self: &Rc<Self>, request: Request) {
        match request {
            Request::Lock { ticket, settings, resource } => {
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
            Request::Release { ticket, holdings } => {
                self.release(ticket, holdings);
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
        let watched = Rc::downgrade(&client);
        client.link.watch(move |news| {
            let Some(client) = watched.upgrade() else { return };
            match news {
                News::Up => {
                    heartbeat::validate_all(&client);
                    client.all_changed();
                }
                News::Down => {
                    heal(&client);
                    client.all_changed();
                }
                News::Failing(error) => waiting::tell_outage(&client, error),
                News::Changed(key) => client.changed(key),
                News::AllChanged => client.all_changed(),
            }
        });
        self.clients.borrow_mut().insert(Arc::as_ptr(endpoint), Rc::clone(&client));
        client
    }

    fn release(self: &Rc<Self>, ticket: Ticket, holdings: Vec<Arc<Holding>>) {
        if holdings.len() <= MOST_AT_ONCE {
            let done = |releases: Releases| ticket.answer(releases.into_answer());
            self.release_some(&holdings, Releases::default(), done);
            return;
        }
        let desk = Rc::clone(self);
        tokio::task::spawn_local(async move {
            let mut releases = Releases::default();
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
            if client.with(id, |_| ()).is_some() {
                tasks.push(tokio::task::spawn_local(
                    async move { heartbeat::renew_now(&client, id, ttl).await },
                ));
            }
        }
        if tasks.is_empty() {
            ticket.answer(Err(Error::NotHeld.into()));
            return;
        }
        let mut losses: Vec<Loss> = Vec::new();
        let mut failure = None;
        for task in tasks {
            match task.await {
                Ok(Ok(loss)) => losses.extend(loss),
                Ok(Err(error)) => {
                    failure.get_or_insert(error);
                }
                Err(panic) => {
                    failure.get_or_insert(Error::Internal(panic.to_string()));
                }
            }
        }
        ticket.answer(match (losses.first().map(Loss::to_error), failure) {
            (None, None) => Ok(Answer::Renewed),
            (Some(error), _) | (None, Some(error)) => {
                Err(Box::new(CallFailure { error, lost: losses, released: None, failed: Vec::new() }))
            }
        });
    }
}

/// Mends a broken connection for as long as something needs it: what is held, or who waits.
fn heal(client: &Rc<Client>) {
    if client.healing.replace(true) {
        return;
    }
    let client = Rc::clone(client);
    tokio::task::spawn_local(async move {
        while client.needs_connection() && client.link.current().is_none() {
            let up = client.link.live(Patience::Endless, client.mending_limit());
            // Looks up now and then: what needed the connection may have ended.
            let _ = tokio::time::timeout(Duration::from_secs(1), up).await;
        }
        client.healing.set(false);
    });
}
