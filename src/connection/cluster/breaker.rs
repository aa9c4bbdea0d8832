//! The nodes of one cluster connection, by their addresses: one connection to each, and a breaker for each address.
//!
//! The engine connects to nodes while everything else waits for it. So it never waits for a node that does not answer:
//! connections are made here, in a task for each address. An address that fails is _barred_: the engine is refused at
//! once, while the task goes on trying, and has the connection when it asks after the node is back.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use redis::{AsyncConnectionConfig, PushInfo, PushKind, Value};
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, timeout};

use crate::connection::cluster::Once;
use crate::connection::cluster::node::{End, Node, SILENCE, WeakNode};
use crate::connection::handshake::{Address, Connected, connect};
use crate::model::endpoint::{Endpoint, Host};
use crate::model::error::Error;
use crate::time::backoff::Backoff;

/// How long the engine waits for the first connection to a node, where others can be used meanwhile.
pub const HURRY: Duration = Duration::from_millis(100);

/// How long it waits for one to a barred address. Without any pause it would ask again and again without one.
const REFUSAL: Duration = Duration::from_millis(5);

/// How long it is tried to connect to a node after it was asked for last, and how long a connection waits to be fetched.
const INTEREST: Duration = Duration::from_secs(10);

/// A connection that lived this long was a good one: when the node closes it, the next is made as soon as it is asked for.
const STEADY: Duration = Duration::from_secs(1);

/// What is pushed when an address is barred no more: no word of redis's.
pub const NODE_BACK: &str = "node back";

/// The nodes of one cluster connection.
pub struct Nodes {
    endpoint: Arc<Endpoint>,
    state: Mutex<State>,
    /// What the engine was given to send to them.
    once: Once,
    /// How many can be used.
    up: watch::Sender<usize>,
    /// Told when one has gone silent: what it was to tell of, it will not. And when one is back.
    pushes: UnboundedSender<PushInfo>,
}

#[derive(Default)]
struct State {
    seats: HashMap<Host, Seat>,
    /// Which of them serves what, by the last answer.
    map: Option<Value>,
    /// Why the last connection could not be made, or was refused.
    failure: Option<Error>,
    /// Why a node does not tell of changed keys.
    why_no_pushes: Option<String>,
}

/// One address. It is there for as long as its keeper is.
struct Seat {
    /// What the engine wants of a connection to it.
    config: AsyncConnectionConfig,
    /// When the engine last asked for it.
    asked: Instant,
    node: Option<WeakNode>,
    /// A connection that the engine has not fetched yet.
    fresh: Option<Node>,
    /// Why it is barred, if it is.
    barred: Option<Error>,
    /// Told of the end of each attempt.
    outcome: watch::Sender<()>,
    _keeper: AbortOnDrop,
}

impl Seat {
    fn node(&mut self) -> Option<Node> {
        let node = self.node.as_ref().and_then(WeakNode::upgrade);
        self.fresh = None;
        node
    }
}

/// A task that ends with whoever holds this.
struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Nodes {
    /// No nodes yet. `pushes` takes what the nodes say without being asked.
    #[must_use]
    pub fn new(endpoint: &Arc<Endpoint>, pushes: UnboundedSender<PushInfo>) -> Arc<Self> {
        let (endpoint, state, up) = (Arc::clone(endpoint), Mutex::default(), watch::Sender::new(0));
        Arc::new(Self { endpoint, state, once: Once::default(), up, pushes })
    }

    /// Which redis they are of.
    #[must_use]
    pub fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }

    /// What the engine was given to send to them.
    #[must_use]
    pub fn once(&self) -> &Once {
        &self.once
    }

    /// The connection to a node: the one that there is, or one that is made now.
    ///
    /// # Errors
    /// Why there is none. At once if the address is barred, soon in any case, unless no other node can be used.
    pub async fn connect(self: &Arc<Self>, host: Host, config: AsyncConnectionConfig) -> Result<Node, Error> {
        let (patience, mut outcome) = {
            let mut state = self.state();
            let seat = state.seats.entry(host.clone()).or_insert_with(|| self.seat(&host, &config));
            (seat.asked, seat.config) = (Instant::now(), config);
            if let Some(node) = seat.node() {
                return Ok(node);
            }
            (if seat.barred.is_some() { REFUSAL } else { HURRY }, seat.outcome.subscribe())
        };
        let mut up = self.up.subscribe();
        let too_long = async {
            drop(up.wait_for(|up| *up > 0).await);
            sleep(patience).await;
        };
        tokio::select! {
            biased;
            _ = outcome.changed() => {}
            () = too_long => {}
        }
        let mut state = self.state();
        let failure = match state.seats.get_mut(&host) {
            Some(seat) => match seat.node() {
                Some(node) => return Ok(node),
                None => seat.barred.get_or_insert_with(|| self.silent(&host, HURRY)).clone(),
            },
            None => self.silent(&host, HURRY),
        };
        state.failure = Some(failure.clone());
        Err(failure)
    }

    /// Why this address is barred, if it is. Whoever asks is interested in it.
    #[must_use]
    pub fn why_barred(&self, host: &Host) -> Option<Error> {
        let mut state = self.state();
        let seat = state.seats.get_mut(host)?;
        let why = seat.barred.clone()?;
        seat.asked = Instant::now();
        Some(why)
    }

    /// The nodes that can be used, but for this one.
    #[must_use]
    pub fn others(&self, but: &Node) -> Vec<Node> {
        let state = self.state();
        let nodes = state.seats.values().filter_map(|seat| seat.node.as_ref()?.upgrade());
        nodes.filter(|node| !node.is_same(but)).collect()
    }

    /// Which of them serves what, by the last answer to CLUSTER SLOTS that there was.
    #[must_use]
    pub fn map(&self) -> Option<Value> {
        self.state().map.clone()
    }

    /// There is a new one.
    pub fn set_map(&self, map: Value) {
        self.state().map = Some(map);
    }

    /// Why the last connection could not be made.
    #[must_use]
    pub fn failure(&self) -> Option<Error> {
        self.state().failure.clone()
    }

    /// Why one of the nodes does not tell of changed keys.
    #[must_use]
    pub fn why_no_pushes(&self) -> Option<String> {
        self.state().why_no_pushes.clone()
    }

    /// Ends when none of the nodes can be used.
    pub fn all_gone(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut up = self.up.subscribe();
        async move { drop(up.wait_for(|up| *up == 0).await) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn seat(self: &Arc<Self>, host: &Host, config: &AsyncConnectionConfig) -> Seat {
        let keeper = Keeper { nodes: Arc::downgrade(self), host: host.clone() };
        Seat {
            config: config.clone(),
            asked: Instant::now(),
            node: None,
            fresh: None,
            barred: None,
            outcome: watch::Sender::new(()),
            _keeper: AbortOnDrop(tokio::spawn(keeper.keep()).abort_handle()),
        }
    }

    fn push(&self, kind: PushKind) {
        drop(self.pushes.send(PushInfo { kind, data: Vec::new() }));
    }

    fn silent(&self, host: &Host, time: Duration) -> Error {
        self.failed(format!("{host} has not answered for {} ms", time.as_millis()), "ETIMEDOUT")
    }

    fn closing(&self, host: &Host) -> Error {
        self.failed(format!("{host} takes connections and closes each of them soon"), "ECONNRESET")
    }

    fn failed(&self, detail: String, reason: &'static str) -> Error {
        Error::Connection { endpoint: Arc::clone(&self.endpoint), detail, reason }
    }
}

/// The task of one address. Its end, whatever that comes of, takes the seat away.
struct Keeper {
    nodes: Weak<Nodes>,
    host: Host,
}

impl Keeper {
    /// Connects, lives as long as the connection does, and connects again if the address is barred. Ends with the cluster
    /// connection, when nobody wants the node any more, and when it can be connected to again as soon as somebody does.
    async fn keep(self) {
        let mut backoff = Backoff::default();
        // The last connection was closed as soon as it was made.
        let mut flaps = false;
        while let Some((endpoint, config)) = self.wanted() {
            let closed = std::mem::take(&mut flaps);
            let made = timeout(
                SILENCE,
                connect(&endpoint, Address::Host(&self.host), config, Instant::now() + SILENCE),
            )
            .await;
            match made {
                Ok(Ok(connected)) => match self.live(connected, closed).await {
                    Fate::Over => return,
                    Fate::Probe => backoff.reset(),
                    Fate::Pause => {
                        flaps = true;
                        let pause = backoff.next_delay();
                        // The engine waits for a first connection for as long as for one after a short pause.
                        if pause > HURRY / 2 {
                            self.with(|nodes, seat| seat.bar(nodes.closing(&self.host)));
                        }
                        sleep(pause).await;
                    }
                },
                Ok(Err(failure)) => {
                    // Nobody lets us in the sooner for a wrong password in quick succession.
                    let pause = if matches!(failure, Error::Connection { .. }) {
                        backoff.next_delay()
                    } else {
                        SILENCE
                    };
                    self.with(|_, seat| seat.bar(failure));
                    sleep(pause).await;
                }
                Err(_) => {
                    self.with(|nodes, seat| seat.bar(nodes.silent(&self.host, SILENCE)));
                    sleep(backoff.next_delay()).await;
                }
            }
        }
    }

    /// What the engine wants of the next connection, if it has wanted one lately.
    fn wanted(&self) -> Option<(Arc<Endpoint>, AsyncConnectionConfig)> {
        let wanted = self.with(|nodes, seat| {
            let is_wanted = seat.asked.elapsed() < INTEREST;
            is_wanted.then(|| (Arc::clone(&nodes.endpoint), seat.config.clone()))
        });
        wanted.flatten()
    }

    /// `closed`: the one before it was, as soon as it was made, so that this one is nothing to tell of yet.
    async fn live(&self, connected: Connected, closed: bool) -> Fate {
        let since = Instant::now();
        let Some(nodes) = self.nodes.upgrade() else { return Fate::Over };
        if let Some(reason) = &connected.why_no_pushes {
            nodes.state().why_no_pushes = Some(reason.clone());
        }
        let (node, life) = Node::new(connected);
        let count = Counted::new(&nodes);
        self.with(|nodes, seat| {
            if seat.barred.is_some() && !closed {
                nodes.push(PushKind::Other(NODE_BACK.to_owned()));
            }
            (seat.node, seat.fresh, seat.barred) = (Some(node.downgrade()), Some(node), None);
            seat.outcome.send_replace(());
        });
        drop(nodes);
        let mut end = Box::pin(life.end());
        let in_time = timeout(INTEREST, &mut end).await;
        if in_time.is_err() {
            self.with(|_, seat| seat.fresh = None);
        }
        let end = match in_time {
            Ok(end) => end,
            Err(_) => end.await,
        };
        drop(count);
        let fate = self.with(|nodes, seat| match end {
            // Somebody may have asked for it since.
            End::Unused if seat.outcome.receiver_count() > 0 => Fate::Probe,
            End::Unused => Fate::Over,
            End::Closed if since.elapsed() >= STEADY => Fate::Over,
            // One that is closed as soon as it is made is like one that is refused.
            End::Closed => Fate::Pause,
            End::Silent => {
                seat.bar(nodes.silent(&self.host, SILENCE));
                seat.asked = Instant::now();
                nodes.push(PushKind::Disconnection);
                Fate::Probe
            }
        });
        fate.unwrap_or(Fate::Over)
    }

    fn with<Result>(&self, act: impl FnOnce(&Nodes, &mut Seat) -> Result) -> Option<Result> {
        let nodes = self.nodes.upgrade()?;
        let mut state = nodes.state();
        state.seats.get_mut(&self.host).map(|seat| act(&nodes, seat))
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        if let Some(nodes) = self.nodes.upgrade() {
            // It is dropped without the lock.
            let seat = nodes.state().seats.remove(&self.host);
            drop(seat);
        }
    }
}

impl Seat {
    fn bar(&mut self, failure: Error) {
        (self.node, self.fresh, self.barred) = (None, None, Some(failure));
        self.outcome.send_replace(());
    }
}

/// What comes after a connection.
enum Fate {
    /// Nothing, until somebody asks.
    Over,
    /// The next one, at once.
    Probe,
    /// The next one, after a pause.
    Pause,
}

/// One of the nodes that can be used.
struct Counted(Weak<Nodes>);

impl Counted {
    fn new(nodes: &Arc<Nodes>) -> Self {
        nodes.up.send_modify(|up| *up += 1);
        Self(Arc::downgrade(nodes))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        if let Some(nodes) = self.0.upgrade() {
            nodes.up.send_modify(|up| *up -= 1);
        }
    }
}
