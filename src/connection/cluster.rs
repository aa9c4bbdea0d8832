//! A connection to a cluster, through the redis crate's engine. The engine knows which node serves which slot, follows
//! redirections and reconnects. The connections to nodes are ours, made like those to a single server (node.rs), and
//! the engine never waits long for a node that does not answer (breaker.rs).
//!
//! The engine may retry a command only if it certainly has not run. A redirection says so. A broken connection does
//! not: a SET that ran and whose reply was lost would find its own key, and report somebody else as the holder. So
//! commands in flight on a connection that breaks are answered with [`LOST`], which the lock room settles; and the
//! engine never resends what may have run ([`once`]).

mod member;
mod once;

pub mod breaker;
pub mod node;

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak};

use redis::cluster::ClusterClientBuilder;
use redis::cluster_async::ClusterConnection;
use redis::cluster_routing::{Route, SingleNodeRoutingInfo, SlotAddr};
use redis::{ConnectionAddr, ErrorKind, ProtocolVersion, PushInfo, RedisError, ServerError, Value};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::connection::cluster::breaker::Nodes;
use crate::connection::reply::NoReply;
use crate::model::endpoint::{Endpoint, Host};
use crate::model::error::Error;

use member::Member;
pub use once::Once;

/// How often the engine follows a redirection before it returns it to us, and its pauses in milliseconds.
const REDIRECTIONS: u32 = 3;
const MIN_PAUSE: u64 = 50;
const MAX_PAUSE: u64 = 100;

/// The cluster connections of this process.
static CLUSTERS: LazyLock<Mutex<HashMap<ClusterId, Weak<Nodes>>>> = LazyLock::new(Mutex::default);

/// The number of a cluster connection; it tells which one a new connection to a node is for. The engine opens nodes
/// through a trait function without `self` ([`Connect::connect_with_config`]), so it cannot be given our state. It does
/// pass on the login that the builder was given. So the builder gets this number as the user name, and [`CLUSTERS`]
/// maps the number to our state. Redis never sees it: the handshake takes the real login from our endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct ClusterId(u64);

impl ClusterId {
    fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }

    fn from_user_name(name: &str) -> Option<Self> {
        name.parse().ok().map(Self)
    }

    fn to_user_name(self) -> String {
        self.0.to_string()
    }

    fn nodes(self) -> Option<Arc<Nodes>> {
        clusters().get(&self)?.upgrade()
    }
}

fn clusters() -> MutexGuard<'static, HashMap<ClusterId, Weak<Nodes>>> {
    CLUSTERS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An entry of [`CLUSTERS`]. Dropping this removes it.
struct Entry {
    id: ClusterId,
    nodes: Arc<Nodes>,
}

impl Entry {
    fn new(nodes: Arc<Nodes>) -> Arc<Self> {
        let id = ClusterId::next();
        clusters().insert(id, Arc::downgrade(&nodes));
        Arc::new(Self { id, nodes })
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        clusters().remove(&self.id);
    }
}

/// A connection to a cluster. Clones share it.
#[derive(Clone)]
pub struct Connection {
    engine: ClusterConnection<Member>,
    entry: Arc<Entry>,
}

/// The connection, and the push messages of its nodes; or the reason why a node sends none.
type Opened = (Connection, Result<UnboundedReceiver<PushInfo>, String>);

/// Connects to a cluster: to those of `hosts` that answer, and to all nodes that these know.
///
/// # Errors
/// What a node said, if none lets us in.
pub async fn open(endpoint: &Arc<Endpoint>, hosts: &[Host]) -> Result<Opened, Error> {
    let (sender, pushes) = unbounded_channel();
    let nodes = Nodes::new(endpoint, sender.clone());
    let entry = Entry::new(Arc::clone(&nodes));
    let addresses = hosts.iter().map(|host| ConnectionAddr::Tcp(host.name.clone(), host.port));
    let state = ClusterClientBuilder::new(addresses)
        .username(entry.id.to_user_name())
        .use_protocol(ProtocolVersion::RESP3)
        .push_sender(sender)
        .retries(REDIRECTIONS)
        .min_retry_wait(MIN_PAUSE)
        .max_retry_wait(MAX_PAUSE)
        .overall_response_timeout(None)
        .build();
    let engine = async { state?.get_async_generic_connection::<Member>().await }.await;
    let engine = engine.map_err(|error| why_not(endpoint, &nodes, error))?;
    let pushes = nodes.why_no_pushes().map_or(Ok(pushes), Err);
    Ok((Connection { engine, entry }, pushes))
}

fn why_not(endpoint: &Arc<Endpoint>, nodes: &Nodes, error: RedisError) -> Error {
    match ServerError::try_from(error) {
        Ok(refusal) => Error::from_reply(endpoint, "CLUSTER SLOTS", "", &refusal),
        Err(error) => nodes.failure().unwrap_or_else(|| from_engine(endpoint, &error)),
    }
}

/// Our own error, if the engine passes one on; else an error with the engine's words.
fn from_engine(endpoint: &Arc<Endpoint>, error: &RedisError) -> Error {
    let own = failure_in(error).cloned();
    own.unwrap_or_else(|| Error::Connection {
        endpoint: Arc::clone(endpoint),
        detail: error.to_string(),
        reason: "ECONNRESET",
    })
}

impl Connection {
    /// Sends commands for one key to the node that serves it, in one write.
    ///
    /// # Errors
    /// Why there are no replies.
    pub async fn send(mut self, key: &[u8], commands: redis::Pipeline) -> Result<Vec<Value>, NoReply> {
        let node = SingleNodeRoutingInfo::SpecificNode(Route::with_key(key, SlotAddr::Master));
        let count = commands.len();
        let request = self.entry.nodes.once().begin();
        let replies = self.engine.route_pipeline(commands, request.number(), count, node).await;
        replies.map_err(|error| match error.kind() {
            // Whatever the error is, the commands may have run.
            _ if request.may_have_run() => NoReply::Dropped,
            LOST => NoReply::Dropped,
            _ => match ServerError::try_from(error) {
                Ok(refusal) => NoReply::Refused(refusal),
                Err(error) => {
                    let failure = from_engine(self.entry.nodes.endpoint(), &error);
                    NoReply::Unsent(Some(Box::new(failure)))
                }
            },
        })
    }

    /// Ends when no node can be used. The cluster is then better opened anew, from the addresses that the caller gave.
    pub fn all_gone(&self) -> impl Future<Output = ()> + Send + use<> {
        self.entry.nodes.all_gone()
    }
}

/// The kind of error for commands that were sent and whose replies will never come. The engine does not retry for this
/// kind.
const LOST: ErrorKind = ErrorKind::UnexpectedReturnType;

/// The kinds of error for commands that were not sent. For the first, the engine reconnects and retries; the second it
/// returns to us at once.
const TRY_AGAIN: io::ErrorKind = io::ErrorKind::ConnectionRefused;
const GIVE_UP: io::ErrorKind = io::ErrorKind::Unsupported;

fn unsent(kind: io::ErrorKind, failure: Error) -> RedisError {
    io::Error::new(kind, failure).into()
}

/// The error that [`unsent`] was given.
fn failure_in(error: &RedisError) -> Option<&Error> {
    type Shared = Arc<dyn std::error::Error + Send + Sync>;
    let inner = std::error::Error::source(error)?.downcast_ref::<Shared>()?;
    inner.downcast_ref::<io::Error>()?.get_ref()?.downcast_ref()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::endpoint::{Login, Place};

    #[test]
    fn a_failure_comes_back_from_the_engine_as_it_was() {
        let place = Place::Cluster(Vec::new());
        let (login, tls, waits_for_replicas) = (Login::default(), None, None);
        let endpoint = Arc::new(Endpoint { place, login, tls, waits_for_replicas });
        let silent =
            || Error::Connection { endpoint: endpoint.clone(), detail: "d".to_owned(), reason: "ETIMEDOUT" };
        for kind in [TRY_AGAIN, GIVE_UP] {
            let error = from_engine(&endpoint, &unsent(kind, silent()).clone());
            assert!(matches!(error, Error::Connection { detail, reason: "ETIMEDOUT", .. } if detail == "d"));
        }
        let own = from_engine(&endpoint, &(ErrorKind::ClusterConnectionNotFound, "No connections").into());
        assert!(matches!(own, Error::Connection { detail, .. } if detail.starts_with("No connections")));
    }

    #[test]
    fn an_entry_ends_with_its_last_reference() {
        let place = Place::Cluster(Vec::new());
        let (login, tls, waits_for_replicas) = (Login::default(), None, None);
        let endpoint = Arc::new(Endpoint { place, login, tls, waits_for_replicas });
        let (sender, _pushes) = unbounded_channel();
        let entry = Entry::new(Nodes::new(&endpoint, sender));
        let id = ClusterId::from_user_name(&entry.id.to_user_name()).unwrap();
        assert!(id.nodes().is_some());
        let before = Arc::strong_count(&endpoint);
        drop(entry);
        assert!(id.nodes().is_none());
        assert_eq!(Arc::strong_count(&endpoint), before - 1, "nor is the endpoint kept");
    }
}
