//! The nodes of one cluster connection, by address: one connection to each, and a circuit breaker for each address.
//!
//! While the engine connects to a node, everything else in it waits. So it must never wait for a node that does not
//! answer. Connections are made here, in one task for each address. After a failure the address is _barred_: the
//! engine's attempts fail at once, while the task keeps trying. When the node is back, the engine's next attempt gets
//! the connection.

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

/// How long the engine waits for the first connection to a node, if other nodes can be used meanwhile.
pub const FIRST_CONNECT_WAIT: Duration = Duration::from_millis(100);

/// How long the engine waits for a barred address. Without any pause it would retry in a busy loop.
const BARRED_WAIT: Duration = Duration::from_millis(5);

/// For how long after the engine's last request for a node its address is still probed, and a new connection is kept
/// unused.
const IDLE_PROBE_LIMIT: Duration = Duration::from_secs(10);

/// A connection that was up for this long was stable: when the node closes it, the next is made on request without
/// backing off.
const STABLE: Duration = Duration::from_secs(1);

/// What is pushed when an address is barred no more: no word of redis's.
pub const NODE_BACK: &str = "node back";

/// The nodes of one cluster connection.
pub struct Nodes {
    endpoint: Arc<Endpoint>,
    state: Mutex<State>,
    /// The commands that the engine was given, and whether they may have run.
    once: Once,
    /// How many nodes can be used.
    up: watch::Sender<usize>,
    /// Told when one has gone silent: what it was to tell of, it will not. And when one is back.
    pushes: UnboundedSender<PushInfo>,
}

#[derive(Default)]
struct State {
    seats: HashMap<Host, Seat>,
    /// Which node serves which slot, by the last answer to CLUSTER SLOTS.
    map: Option<Value>,
    /// The error of the last failed connection.
    failure: Option<Error>,
    /// Why a node does not report changes of keys.
    why_no_pushes: Option<String>,
}

/// One address. Exists as long as its task.
struct Seat {
    /// The engine's configuration for a connection to it.
    config: AsyncConnectionConfig,
    /// When the engine last asked for it.
    asked: Instant,
    node: Option<WeakNode>,
    /// A new connection that the engine has not taken yet.
    fresh: Option<Node>,
    /// Why the address is barred; `None` if it is not.
    barred: Option<Error>,
    /// Notified at the end of each attempt.
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

/// A task that is aborted when this is dropped.
struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Nodes {
    /// Starts without nodes. `pushes` takes the push messages of the nodes.
    #[must_use]
    pub fn new(endpoint: &Arc<Endpoint>, pushes: UnboundedSender<PushInfo>) -> Arc<Self> {
        let (endpoint, state, up) = (Arc::clone(endpoint), Mutex::default(), watch::Sender::new(0));
        Arc::new(Self { endpoint, state, once: Once::default(), up, pushes })
    }

    /// The endpoint of the cluster.
    #[must_use]
    pub fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }

    /// The commands that the engine was given.
    #[must_use]
    pub fn once(&self) -> &Once {
        &self.once
    }

    /// The connection to a node: the existing one, or a new one.
    ///
    /// # Errors
    /// Why there is none. At once if the address is barred, and soon otherwise, unless no other node can be used.
    pub async fn connect(self: &Arc<Self>, host: Host, config: AsyncConnectionConfig) -> Result<Node, Error> {
        let (patience, mut outcome) = {
            let mut state = self.state();
            let seat = state.seats.entry(host.clone()).or_insert_with(|| self.seat(&host, &config));
            (seat.asked, seat.config) = (Instant::now(), config);
            if let Some(node) = seat.node() {
                return Ok(node);
            }
            (if seat.barred.is_some() { BARRED_WAIT } else { FIRST_CONNECT_WAIT }, seat.outcome.subscribe())
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
                None => seat.barred.get_or_insert_with(|| self.silent(&host, FIRST_CONNECT_WAIT)).clone(),
            },
            None => self.silent(&host, FIRST_CONNECT_WAIT),
        };
        state.failure = Some(failure.clone());
        Err(failure)
    }

    /// Why this address is barred; `None` if it is not. Counts as a request for it.
    #[must_use]
    pub fn why_barred(&self, host: &Host) -> Option<Error> {
        let mut state = self.state();
        let seat = state.seats.get_mut(host)?;
        let why = seat.barred.clone()?;
        seat.asked = Instant::now();
        Some(why)
    }

    /// The nodes that can be used, except this one.
    #[must_use]
    pub fn others(&self, but: &Node) -> Vec<Node> {
        let state = self.state();
        let nodes = state.seats.values().filter_map(|seat| seat.node.as_ref()?.upgrade());
        nodes.filter(|node| !node.is_same(but)).collect()
    }

    /// Which node serves which slot, by the last answer to CLUSTER SLOTS.
    #[must_use]
    pub fn map(&self) -> Option<Value> {
        self.state().map.clone()
    }

    /// Sets what [`Self::map`] returns.
    pub fn set_map(&self, map: Value) {
        self.state().map = Some(map);
    }

    /// The error of the last failed connection.
    #[must_use]
    pub fn failure(&self) -> Option<Error> {
        self.state().failure.clone()
    }

    /// Why a node does not report changes of keys.
    #[must_use]
    pub fn why_no_pushes(&self) -> Option<String> {
        self.state().why_no_pushes.clone()
    }

    /// Ends when no node can be used.
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

/// The task of one address. Its end, for whatever reason, removes the seat.
struct Keeper {
    nodes: Weak<Nodes>,
    host: Host,
}

impl Keeper {
    /// Connects, waits for the end of the connection, and connects again if the address is barred. Ends with the
    /// cluster connection, when nobody has asked for the node lately, and when the next connection can wait for a
    /// request.
    async fn keep(self) {
        let mut backoff = Backoff::default();
        // The last connection was closed as soon as it was made.
        let mut closes = false;
        while let Some((endpoint, config)) = self.wanted() {
            let closed = std::mem::take(&mut closes);
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
                        closes = true;
                        let pause = backoff.next_delay();
                        // The engine would wait for the next connection during a short pause. For a long one it must
                        // not.
                        if pause > FIRST_CONNECT_WAIT / 2 {
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

    /// What the next connection needs; `None` if the engine has not asked for one lately.
    fn wanted(&self) -> Option<(Arc<Endpoint>, AsyncConnectionConfig)> {
        let wanted = self.with(|nodes, seat| {
            let is_wanted = seat.asked.elapsed() < IDLE_PROBE_LIMIT;
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
        let in_time = timeout(IDLE_PROBE_LIMIT, &mut end).await;
        if in_time.is_err() {
            self.with(|_, seat| seat.fresh = None);
        }
        let end = match in_time {
            Ok(end) => end,
            Err(_) => end.await,
        };
        drop(count);
        let fate = self.with(|nodes, seat| match end {
            // Somebody may be waiting for it by now.
            End::Unused if seat.outcome.receiver_count() > 0 => Fate::Probe,
            End::Unused => Fate::Over,
            End::Closed if since.elapsed() >= STABLE => Fate::Over,
            // A connection that is closed soon counts as a failed attempt.
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
            // Dropped without the lock.
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

/// What to do after the end of a connection.
enum Fate {
    /// Nothing until the engine asks.
    Over,
    /// Connect again at once.
    Probe,
    /// Connect again after a pause.
    Pause,
}

/// Counts one node that can be used, until this is dropped.
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
