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
use crate::runtime::owner::Owner;
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

/// The kind of the push message that tells that an address is no longer barred. Redis sends no such kind.
pub const NODE_BACK: &str = "node back";

/// The nodes of one cluster connection.
pub struct Nodes {
    endpoint: Arc<Endpoint>,
    /// Whose connections they are.
    pub owner: Owner,
    state: Mutex<State>,
    /// The commands that the engine was given, and whether they may have run.
    once: Once,
    /// How many nodes can be used.
    up: watch::Sender<usize>,
    /// Gets a message when a node has gone silent, because its reports of changes are lost; and when one is back.
    pushes: UnboundedSender<PushInfo>,
}

#[derive(Default)]
struct State {
    slots: HashMap<Host, NodeSlot>,
    /// Which node serves which slot, by the last answer to CLUSTER SLOTS.
    map: Option<Value>,
    /// The error of the last failed connection.
    failure: Option<Error>,
    /// Why a node does not report changes of keys.
    why_no_pushes: Option<String>,
}

/// One address. Exists as long as its task.
struct NodeSlot {
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

impl NodeSlot {
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
        Arc::new(Self { endpoint, owner: Owner::current(), state, once: Once::default(), up, pushes })
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
            let slot = state.slots.entry(host.clone()).or_insert_with(|| self.new_slot(&host, &config));
            (slot.asked, slot.config) = (Instant::now(), config);
            if let Some(node) = slot.node() {
                return Ok(node);
            }
            (if slot.barred.is_some() { BARRED_WAIT } else { FIRST_CONNECT_WAIT }, slot.outcome.subscribe())
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
        let failure = match state.slots.get_mut(&host) {
            Some(slot) => match slot.node() {
                Some(node) => return Ok(node),
                None => slot.barred.get_or_insert_with(|| self.silent(&host, FIRST_CONNECT_WAIT)).clone(),
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
        let slot = state.slots.get_mut(host)?;
        let why = slot.barred.clone()?;
        slot.asked = Instant::now();
        Some(why)
    }

    /// The nodes that can be used, except this one.
    #[must_use]
    pub fn others(&self, but: &Node) -> Vec<Node> {
        let state = self.state();
        let nodes = state.slots.values().filter_map(|slot| slot.node.as_ref()?.upgrade());
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

    fn new_slot(self: &Arc<Self>, host: &Host, config: &AsyncConnectionConfig) -> NodeSlot {
        let keeper = Keeper { nodes: Arc::downgrade(self), host: host.clone() };
        NodeSlot {
            config: config.clone(),
            asked: Instant::now(),
            node: None,
            fresh: None,
            barred: None,
            outcome: watch::Sender::new(()),
            _keeper: AbortOnDrop(tokio::spawn(self.owner.owns(keeper.keep())).abort_handle()),
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

/// The task of one address. Its end, for whatever reason, removes the slot.
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
        // Whether the last connection was closed soon.
        let mut has_closed_early = false;
        while let Some((endpoint, config)) = self.wanted() {
            let is_suspect = std::mem::take(&mut has_closed_early);
            let made = timeout(
                SILENCE,
                connect(&endpoint, Address::Host(&self.host), config, Instant::now() + SILENCE),
            )
            .await;
            match made {
                Ok(Ok(connected)) => match self.live(connected, is_suspect).await {
                    Next::Stop => return,
                    Next::Reconnect => backoff.reset(),
                    Next::BackOff => {
                        has_closed_early = true;
                        let pause = backoff.next_delay();
                        // The engine would wait for the next connection during a short pause. For a long one it must
                        // not.
                        if pause > FIRST_CONNECT_WAIT / 2 {
                            self.with(|nodes, slot| slot.bar(nodes.closing(&self.host)));
                        }
                        sleep(pause).await;
                    }
                },
                Ok(Err(failure)) => {
                    // A wrong password does not get better by frequent retries.
                    let pause = if matches!(failure, Error::Connection { .. }) {
                        backoff.next_delay()
                    } else {
                        SILENCE
                    };
                    self.with(|_, slot| slot.bar(failure));
                    sleep(pause).await;
                }
                Err(_) => {
                    self.with(|nodes, slot| slot.bar(nodes.silent(&self.host, SILENCE)));
                    sleep(backoff.next_delay()).await;
                }
            }
        }
    }

    /// What the next connection needs; `None` if the engine has not asked for one lately.
    fn wanted(&self) -> Option<(Arc<Endpoint>, AsyncConnectionConfig)> {
        let wanted = self.with(|nodes, slot| {
            let is_wanted = slot.asked.elapsed() < IDLE_PROBE_LIMIT;
            is_wanted.then(|| (Arc::clone(&nodes.endpoint), slot.config.clone()))
        });
        wanted.flatten()
    }

    /// Waits for the end of a connection. `is_suspect`: the one before was closed soon, so this one does not count as back.
    async fn live(&self, connected: Connected, is_suspect: bool) -> Next {
        let since = Instant::now();
        let Some(nodes) = self.nodes.upgrade() else { return Next::Stop };
        if let Some(reason) = &connected.why_no_pushes {
            nodes.state().why_no_pushes = Some(reason.clone());
        }
        let (node, life) = Node::new(connected);
        let count = UsableNode::new(&nodes);
        self.with(|nodes, slot| {
            if slot.barred.is_some() && !is_suspect {
                nodes.push(PushKind::Other(NODE_BACK.to_owned()));
            }
            (slot.node, slot.fresh, slot.barred) = (Some(node.downgrade()), Some(node), None);
            slot.outcome.send_replace(());
        });
        drop(nodes);
        let mut end = Box::pin(life.end());
        let in_time = timeout(IDLE_PROBE_LIMIT, &mut end).await;
        if in_time.is_err() {
            self.with(|_, slot| slot.fresh = None);
        }
        let end = match in_time {
            Ok(end) => end,
            Err(_) => end.await,
        };
        drop(count);
        let next = self.with(|nodes, slot| match end {
            // Somebody may be waiting for it by now.
            End::Unused if slot.outcome.receiver_count() > 0 => Next::Reconnect,
            End::Unused => Next::Stop,
            End::Closed if since.elapsed() >= STABLE => Next::Stop,
            // A connection that is closed soon counts as a failed attempt.
            End::Closed => Next::BackOff,
            End::Silent => {
                slot.bar(nodes.silent(&self.host, SILENCE));
                slot.asked = Instant::now();
                nodes.push(PushKind::Disconnection);
                Next::Reconnect
            }
        });
        next.unwrap_or(Next::Stop)
    }

    fn with<Result>(&self, act: impl FnOnce(&Nodes, &mut NodeSlot) -> Result) -> Option<Result> {
        let nodes = self.nodes.upgrade()?;
        let mut state = nodes.state();
        state.slots.get_mut(&self.host).map(|slot| act(&nodes, slot))
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        if let Some(nodes) = self.nodes.upgrade() {
            // Dropped without the lock.
            let slot = nodes.state().slots.remove(&self.host);
            drop(slot);
        }
    }
}

impl NodeSlot {
    fn bar(&mut self, failure: Error) {
        (self.node, self.fresh, self.barred) = (None, None, Some(failure));
        self.outcome.send_replace(());
    }
}

/// What to do after the end of a connection.
enum Next {
    /// Nothing until the engine asks.
    Stop,
    /// Connect again at once.
    Reconnect,
    /// Connect again after a pause.
    BackOff,
}

/// Counts one node that can be used, until this is dropped.
struct UsableNode(Weak<Nodes>);

impl UsableNode {
    fn new(nodes: &Arc<Nodes>) -> Self {
        nodes.up.send_modify(|up| *up += 1);
        Self(Arc::downgrade(nodes))
    }
}

impl Drop for UsableNode {
    fn drop(&mut self) {
        if let Some(nodes) = self.0.upgrade() {
            nodes.up.send_modify(|up| *up -= 1);
        }
    }
}
