//! A cluster: the crate's engine knows which node serves which slot, follows its redirections and mends its connections;
//! the connections themselves are made as those to a single server are (node.rs), and the engine never waits for one that
//! does not answer (breaker.rs).
//!
//! The engine may send a command again only where it certainly has not run. A redirection says so. A broken connection
//! does not: a SET that ran, and whose reply was lost, would find its own key and call it somebody else's. So what was
//! under way on a connection that broke is answered with [`LOST`], which is ours to settle; and nothing that may have run is
//! sent again ([`once`]).

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

/// How often the engine sends a command on before it gives the refusal to us, and the pauses between, in milliseconds.
const REDIRECTIONS: u32 = 3;
const SHORTEST_PAUSE: u64 = 50;
const LONGEST_PAUSE: u64 = 100;

/// The cluster connections of this process, for as long as there is one.
static CLUSTERS: LazyLock<Mutex<HashMap<Label, Weak<Nodes>>>> = LazyLock::new(Mutex::default);

/// Which cluster connection a node is for. The engine makes its connections through a function of a type
/// ([`Connect::connect_with_config`]), which has no room for a state of ours, and passes on to it what the builder was
/// told of the login. So the builder is told this number in the place of a user's name, and [`CLUSTERS`] has what it stands
/// for. The true name and password go by connection.rs alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Label(u64);

impl Label {
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

fn clusters() -> MutexGuard<'static, HashMap<Label, Weak<Nodes>>> {
    CLUSTERS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An entry in [`CLUSTERS`]. It ends with this.
struct Entry {
    label: Label,
    nodes: Arc<Nodes>,
}

impl Entry {
    fn new(nodes: Arc<Nodes>) -> Arc<Self> {
        let label = Label::next();
        clusters().insert(label, Arc::downgrade(&nodes));
        Arc::new(Self { label, nodes })
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        clusters().remove(&self.label);
    }
}

/// A connection to a cluster. Clones share it.
#[derive(Clone)]
pub struct Connection {
    engine: ClusterConnection<Member>,
    entry: Arc<Entry>,
}

/// A cluster's connection, and what its nodes say without being asked, or the reason why one of them says nothing.
type Opened = (Connection, Result<UnboundedReceiver<PushInfo>, String>);

/// Connects to a cluster: to those of `hosts` that answer, and to all others that these know of.
///
/// # Errors
/// What a node said, of those of which none let us in.
pub async fn open(endpoint: &Arc<Endpoint>, hosts: &[Host]) -> Result<Opened, Error> {
    let (sender, pushes) = unbounded_channel();
    let nodes = Nodes::new(endpoint, sender.clone());
    let entry = Entry::new(Arc::clone(&nodes));
    let addresses = hosts.iter().map(|host| ConnectionAddr::Tcp(host.name.clone(), host.port));
    let state = ClusterClientBuilder::new(addresses)
        .username(entry.label.to_user_name())
        .use_protocol(ProtocolVersion::RESP3)
        .push_sender(sender)
        .retries(REDIRECTIONS)
        .min_retry_wait(SHORTEST_PAUSE)
        .max_retry_wait(LONGEST_PAUSE)
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

/// A failure of ours that the engine passes on, or one of its own.
fn from_engine(endpoint: &Arc<Endpoint>, error: &RedisError) -> Error {
    let own = failure_in(error).cloned();
    own.unwrap_or_else(|| Error::Connection {
        endpoint: Arc::clone(endpoint),
        detail: error.to_string(),
        reason: "ECONNRESET",
    })
}

impl Connection {
    /// Sends commands about one key to the node that serves it, in one write.
    ///
    /// # Errors
    /// Why there are no replies.
    pub async fn send(mut self, key: &[u8], commands: redis::Pipeline) -> Result<Vec<Value>, NoReply> {
        let node = SingleNodeRoutingInfo::SpecificNode(Route::with_key(key, SlotAddr::Master));
        let count = commands.len();
        let request = self.entry.nodes.once().begin();
        let replies = self.engine.route_pipeline(commands, request.number(), count, node).await;
        replies.map_err(|error| match error.kind() {
            // Whatever else the engine has met, such as that nobody says who serves what.
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

    /// Ends when none of the nodes can be used: it is then better made anew, from the addresses that the caller gave.
    pub fn all_gone(&self) -> impl Future<Output = ()> + Send + use<> {
        self.entry.nodes.all_gone()
    }
}

/// The kind of the error that says that commands were sent and their replies will never come. One that the engine does
/// not send again for.
const LOST: ErrorKind = ErrorKind::UnexpectedReturnType;

/// The kinds of the errors that say that nothing was sent: one with which the engine connects again and tries again, and
/// one that it gives to us at once.
const TRY_AGAIN: io::ErrorKind = io::ErrorKind::ConnectionRefused;
const GIVE_UP: io::ErrorKind = io::ErrorKind::Unsupported;

fn unsent(kind: io::ErrorKind, failure: Error) -> RedisError {
    io::Error::new(kind, failure).into()
}

/// What [`unsent`] was made of.
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
    fn an_entry_ends_with_the_last_hold_on_it() {
        let place = Place::Cluster(Vec::new());
        let (login, tls, waits_for_replicas) = (Login::default(), None, None);
        let endpoint = Arc::new(Endpoint { place, login, tls, waits_for_replicas });
        let (sender, _pushes) = unbounded_channel();
        let entry = Entry::new(Nodes::new(&endpoint, sender));
        let label = Label::from_user_name(&entry.label.to_user_name()).unwrap();
        assert!(label.nodes().is_some());
        let before = Arc::strong_count(&endpoint);
        drop(entry);
        assert!(label.nodes().is_none());
        assert_eq!(Arc::strong_count(&endpoint), before - 1, "nor is the endpoint kept");
    }
}
