//! The one thread that owns every lock of the process. Takes requests in and hands each to the operation that serves
//! it.

pub mod request;

use std::cell::{Cell, RefCell};
use std::future::pending;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rustc_hash::FxHashMap;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;
use tokio::task::{JoinSet, LocalSet};
use tokio::time::{Instant, sleep_until};

use crate::connection::supervisor::News;
use crate::dispatcher::request::Request;
use crate::lock::acquire;
use crate::lock::endpoint_state::EndpointState;
use crate::lock::loss;
use crate::lock::release;
use crate::lock::release_batch::Releases;
use crate::lock::renew::{self, Renewal};
use crate::lock::undo;
use crate::lock::wait;
use crate::lock::watch;
use crate::model::answer::{Answer, CallFailure, Loss, Ticket};
use crate::model::endpoint::Endpoint;
use crate::model::error::Error;
use crate::model::reservation::Reservation;
use crate::runtime::guard::keep_running;
use crate::runtime::task::spawn;

/// How many requests are handled before the commands that they made are written.
const MAX_REQUESTS_A_TURN: usize = 512;

/// How many releases of one call are in flight at once.
const MAX_RELEASES_IN_FLIGHT: usize = 4_000;

/// How long an unused connection is kept for the next call.
const MAX_IDLE: Duration = Duration::from_secs(60);

/// The same, if other credentials for the same redis were used since. So a password that rotates leaves no trail of
/// open connections.
const MAX_IDLE_SUPERSEDED: Duration = Duration::from_secs(3);

/// Pause between two sweeps for unused connections and endpoints.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// Takes requests in. Cheap to clone, and usable from any thread.
#[derive(Clone)]
pub struct Core {
    requests: UnboundedSender<Request>,
}

impl Core {
    /// Starts the thread. It runs until the process ends.
    ///
    /// # Errors
    /// If the system refuses a thread or a poller for sockets.
    pub fn start() -> std::io::Result<Self> {
        let (requests, receiver) = unbounded_channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new().name("redis-reservation".into()).spawn(move || {
            LocalSet::new().block_on(&runtime, Rc::new(Dispatcher::default()).serve(receiver));
        })?;
        Ok(Self { requests })
    }

    /// A core without a thread, for the simulation; the future that runs it inside of a `LocalSet`; and whether it has
    /// nothing to do for anybody.
    #[cfg(test)]
    pub fn on_this_thread() -> (Self, impl Future<Output = ()>, impl Fn() -> bool) {
        let (requests, receiver) = unbounded_channel();
        let dispatcher = Rc::new(Dispatcher::default());
        let watched = Rc::clone(&dispatcher);
        let is_at_rest = move || {
            let states = watched.states.borrow();
            states.values().all(|state| Rc::strong_count(state) == 1 && !state.needs_connection())
        };
        (Self { requests }, dispatcher.serve(receiver), is_at_rest)
    }

    /// Submits a request. Never blocks.
    pub fn submit(&self, request: Request) {
        // The receiver lives as long as its thread. Should the thread ever have ended, the request is dropped here, and
        // its ticket answers with an internal error.
        drop(self.requests.send(request));
    }
}

#[derive(Default)]
struct Dispatcher {
    /// By the address of the endpoint, of which the process has one copy.
    states: RefCell<FxHashMap<*const Endpoint, Rc<EndpointState>>>,
    /// When the next sweep is; `None` while there are no states.
    next_sweep: Cell<Option<Instant>>,
}

impl Dispatcher {
    async fn serve(self: Rc<Self>, mut receiver: UnboundedReceiver<Request>) {
        let dispatcher = self;
        let mut requests = Vec::with_capacity(MAX_REQUESTS_A_TURN);
        loop {
            let sweep = async {
                match dispatcher.next_sweep.get() {
                    Some(when) => sleep_until(when).await,
                    None => pending().await,
                }
            };
            tokio::select! {
                biased;
                count = receiver.recv_many(&mut requests, MAX_REQUESTS_A_TURN) => if count == 0 { return },
                () = sweep => dispatcher.sweep(),
            }
            for request in requests.drain(..) {
                // A panic costs this request only: its ticket answers when it is dropped.
                drop(catch_unwind(AssertUnwindSafe(|| dispatcher.handle(request))));
            }
        }
    }

    /// Closes connections that nothing has used for a while, and drops the states of endpoints that nobody has any
    /// more.
    fn sweep(&self) {
        let mut states = self.states.borrow_mut();
        let mut latest = FxHashMap::default();
        for state in states.values() {
            let used = state.supervisor.last_used();
            let latest = latest.entry(state.supervisor.endpoint.without_credentials()).or_insert(used);
            *latest = used.max(*latest);
        }
        let idle: Vec<_> = states
            .values()
            .filter(|state| is_idle(state, latest[&state.supervisor.endpoint.without_credentials()]))
            .map(Rc::clone)
            .collect();
        drop(latest);
        for state in idle {
            state.supervisor.close();
        }
        // If only this map has the state, nothing is in flight. If only the state has the endpoint, no call can come
        // for it.
        states.retain(|_, state| {
            Rc::strong_count(state) > 1
                || state.needs_connection()
                || state.supervisor.current().is_some()
                || Arc::strong_count(&state.supervisor.endpoint) > 1
        });
        self.next_sweep.set((!states.is_empty()).then(|| Instant::now() + SWEEP_INTERVAL));
    }

    fn handle(self: &Rc<Self>, request: Request) {
        match request {
            Request::Lock { ticket, settings, resource } => {
                fail_point!("dispatcher", &resource);
                let state = self.state(&settings.endpoint);
                acquire::lock(&state, ticket, settings, &resource);
            }
            Request::Wait { ticket, instance, settings, resource, timeout } => {
                let state = self.state(&settings.endpoint);
                wait::wait(&state, ticket, instance, settings, &resource, timeout);
            }
            Request::CancelWait { settings, resource, environment, call } => {
                let key = settings.key_of(&resource);
                wait::cancel(&self.state(&settings.endpoint), key, environment, call);
            }
            Request::Release { ticket, reservations, losses } => {
                self.release(ticket, reservations, Releases::telling(losses));
            }
            Request::Renew { ticket, reservations, ttl } => {
                spawn(Rc::clone(self).renew(ticket, reservations, ttl));
            }
            Request::Forget { reservation } => {
                loss::discard(&self.state(&reservation.settings().endpoint), &reservation);
            }
            Request::Disconnect { ticket, endpoint } => {
                for state in self.states.borrow().values() {
                    if state.supervisor.endpoint.is_same_redis(&endpoint) && !state.needs_connection() {
                        state.supervisor.close();
                    }
                }
                ticket.answer(Ok(Answer::Disconnected));
            }
            Request::Leave { environment } => {
                for state in self.states.borrow().values() {
                    release::forget_environment(state, environment);
                    wait::forget_environment(state, environment);
                }
            }
        }
    }

    /// The state of an endpoint, made at its first use.
    fn state(&self, endpoint: &Arc<Endpoint>) -> Rc<EndpointState> {
        if let Some(state) = self.states.borrow().get(&Arc::as_ptr(endpoint)) {
            return Rc::clone(state);
        }
        let state = EndpointState::new(Arc::clone(endpoint));
        let (watched, needed) = (Rc::downgrade(&state), Rc::downgrade(&state));
        let watch = move |news: &News| {
            let Some(state) = watched.upgrade() else { return };
            match news {
                News::Up => {
                    renew::validate_all(&state);
                    watch::came_up(&state);
                    state.all_changed();
                }
                News::Failing(error) => wait::tell_outage(&state, error),
                News::Changed(key) => {
                    state.changed(key);
                    watch::changed(&state, key);
                }
                News::Down => state.all_changed(),
                News::AllChanged => {
                    state.all_changed();
                    watch::all_changed(&state);
                }
                // Calls that this node failed are backing off, each until its turn.
                News::NodeBack => {
                    state.notify_recovered();
                    renew::try_soon(&state);
                }
            }
        };
        state.supervisor.watch(watch, move |timeouts| needed.upgrade()?.mending_limit(timeouts));
        let (weak, wakeup) = (Rc::downgrade(&state), Rc::clone(&state.earlier));
        keep_running(move || renew::beat(weak.clone(), Rc::clone(&wakeup)));
        let (weak, wakeup) = (Rc::downgrade(&state), state.undo.wakeup());
        keep_running(move || undo::serve(weak.clone(), Rc::clone(&wakeup)));
        self.states.borrow_mut().insert(Arc::as_ptr(endpoint), Rc::clone(&state));
        if self.next_sweep.get().is_none() {
            self.next_sweep.set(Some(Instant::now() + SWEEP_INTERVAL));
        }
        state
    }

    fn release(self: &Rc<Self>, ticket: Ticket, reservations: Vec<Arc<Reservation>>, releases: Releases) {
        if reservations.len() <= MAX_RELEASES_IN_FLIGHT {
            let done = |releases: Releases| ticket.answer(releases.into_answer());
            self.release_some(&reservations, releases, done);
            return;
        }
        let dispatcher = Rc::clone(self);
        spawn(async move {
            let mut releases = releases;
            // In parts, so that other requests have a turn between them.
            for part in reservations.chunks(MAX_RELEASES_IN_FLIGHT) {
                let (sender, done) = oneshot::channel();
                dispatcher.release_some(part, releases, |releases| drop(sender.send(releases)));
                // It is sent when the last share is dropped, even by a panic.
                releases = done.await.unwrap_or_default();
            }
            ticket.answer(releases.into_answer());
        });
    }

    /// Releases these, adds the results to `releases`, and passes that to `done`.
    fn release_some(
        &self,
        reservations: &[Arc<Reservation>],
        releases: Releases,
        done: impl FnOnce(Releases) + 'static,
    ) {
        for (reservation, share) in reservations.iter().zip(releases.shares(reservations, Box::new(done))) {
            let state = self.state(&reservation.settings().endpoint);
            release::release(&state, Arc::clone(reservation), move |outcome| share.tell(outcome));
        }
    }

    /// Renews these. The call is answered when all have a result, or at the first loss, with the losses found by then.
    /// Later losses are told by events. So a server that hangs does not hold up the news of a loss at another one.
    async fn renew(self: Rc<Self>, ticket: Ticket, reservations: Vec<Arc<Reservation>>, ttl: Duration) {
        let mut tasks = JoinSet::new();
        for reservation in reservations {
            let state = self.state(&reservation.settings().endpoint);
            tasks.spawn_local(async move { renew::renew_now(&state, reservation.id, ttl).await });
        }
        let mut is_any_renewed = false;
        let mut failure = None;
        let mut losses = Vec::new();
        while let Some(renewal) =
            if losses.is_empty() { tasks.join_next().await } else { tasks.try_join_next() }
        {
            match renewal {
                Ok(Ok(Renewal::Renewed)) => is_any_renewed = true,
                Ok(Ok(Renewal::NotHeld)) => {}
                // A release that was asked for meanwhile tells this loss.
                Ok(Ok(Renewal::Lost(loss))) => losses.extend(loss.reservation.tell_loss().then_some(loss)),
                Ok(Err(error)) => {
                    failure.get_or_insert(error);
                }
                Err(panic) => {
                    failure.get_or_insert(Error::Internal(panic.to_string()));
                }
            }
        }
        let caller = Arc::clone(&ticket.caller);
        ticket.answer(match (losses.first().map(Loss::to_error), failure) {
            (None, None) if is_any_renewed => Ok(Answer::Renewed),
            (None, None) => Err(Error::NotHeld.into()),
            (Some(error), _) | (None, Some(error)) => {
                Err(Box::new(CallFailure { error, lost: losses, released: None, failed: Vec::new() }))
            }
        });
        while let Some(renewal) = tasks.join_next().await {
            if let Ok(Ok(Renewal::Lost(loss))) = renewal {
                loss::tell(&caller, loss, false);
            }
        }
    }
}

/// True for a connection that is up, that nothing needs, and that was not used for long. `latest` is when any connection
/// of the same kind to the same place was.
fn is_idle(state: &EndpointState, latest: Instant) -> bool {
    let used = state.supervisor.last_used();
    let longest = if latest > used { MAX_IDLE_SUPERSEDED } else { MAX_IDLE };
    state.supervisor.is_quiet() && !state.needs_connection() && used.elapsed() > longest
}
