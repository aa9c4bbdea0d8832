//! A cluster: the crate's engine knows which node serves which slot, follows its redirections and mends its connections;
//! the connections themselves are made as those to a single server are (node.rs), and the engine never waits for one that
//! does not answer (breaker.rs).
//!
//! The engine may send a command again only where it certainly has not run. A redirection says so. A broken connection
//! does not: a SET that ran, and whose reply was lost, would find its own key and call it somebody else's. So what was
//! under way on a connection that broke is answered with [`LOST`], which is ours to settle.

pub mod breaker;
pub mod node;

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak};

use redis::aio::ConnectionLike;
use redis::cluster::ClusterClientBuilder;
use redis::cluster_async::{ClusterConnection, Connect};
use redis::cluster_routing::{Route, SingleNodeRoutingInfo, SlotAddr};
use redis::{
    Arg, AsyncConnectionConfig, Cmd, ConnectionAddr, ErrorKind, IntoConnectionInfo, ProtocolVersion,
    PushInfo, RedisError, RedisFuture, ServerError, ServerErrorKind, Value,
};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::connection::cluster::breaker::{HURRY, Nodes};
use crate::connection::cluster::node::{Node, Unanswered};
use crate::connection::reply::NoReply;
use crate::model::endpoint::{Endpoint, Host};
use crate::model::error::Error;

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
        let replies = self.engine.route_pipeline(commands, 0, count, node).await;
        replies.map_err(|error| match error.kind() {
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

/// A node, as the engine uses it.
#[derive(Clone)]
pub struct Member {
    node: Node,
    nodes: Arc<Nodes>,
}

impl Member {
    fn error(&self, failed: Unanswered) -> RedisError {
        match failed {
            Unanswered::Closed => io::Error::from(io::ErrorKind::BrokenPipe).into(),
            Unanswered::Lost => (LOST, "the reply was lost with the connection").into(),
            Unanswered::Full => {
                let failure = Error::Connection {
                    endpoint: Arc::clone(self.nodes.endpoint()),
                    detail: "too many commands wait for this node already".to_owned(),
                    reason: "EAGAIN",
                };
                unsent(GIVE_UP, failure)
            }
        }
    }

    /// Asks what any node can answer: this one, and all others as well if it does not answer soon, for the engine does
    /// nothing else meanwhile.
    async fn ask_any(&self, question: &Cmd) -> Result<Value, Unanswered> {
        let ask = |node: Node| {
            let question = question.clone();
            async move { node.ask(&question).await }
        };
        let mut answers = JoinSet::new();
        let head_start = HURRY.saturating_sub(self.node.owed_for());
        answers.spawn(ask(self.node.clone()));
        if let Ok(answer) = timeout(head_start, answers.join_next()).await {
            return answer.and_then(Result::ok).unwrap_or(Err(Unanswered::Lost));
        }
        for node in self.nodes.others(&self.node) {
            answers.spawn(ask(node));
        }
        let mut first = Err(Unanswered::Lost);
        while let Some(answer) = answers.join_next().await {
            if let Ok(Ok(value)) = answer
                && !matches!(value, Value::ServerError(_))
            {
                first = Ok(value);
                break;
            }
        }
        // A question that stays unanswered is how a node that hangs is found out.
        answers.detach_all();
        first
    }

    /// Why a redirection is not worth following: it leads to a barred address. The engine would ask all nodes who serves
    /// what, for every command anew.
    fn why_not_followed(&self, values: &[Value]) -> Option<Error> {
        let to = values.iter().find_map(|value| match value {
            Value::ServerError(error) => redirection(error),
            _ => None,
        });
        self.nodes.why_barred(&to?)
    }
}

/// Where `MOVED slot host:port` or `ASK slot host:port` leads.
fn redirection(error: &ServerError) -> Option<Host> {
    if !matches!(error.kind(), Some(ServerErrorKind::Moved | ServerErrorKind::Ask)) {
        return None;
    }
    let (_slot, address) = error.details()?.split_once(' ')?;
    let (name, port) = address.rsplit_once(':')?;
    let name = name.trim_start_matches('[').trim_end_matches(']').to_owned();
    Some(Host { name, port: port.parse().ok()? })
}

impl ConnectionLike for Member {
    /// The engine's own questions.
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        Box::pin(async move {
            let answer = match command.args_iter().next() {
                // Whether it is worth keeping. That is known, and to wait for it would stop all that goes to others.
                Some(Arg::Simple(b"PING")) if self.node.is_open() => Ok(Value::Okay),
                Some(Arg::Simple(b"PING")) => Err(Unanswered::Closed),
                Some(Arg::Simple(b"CLUSTER")) => self.ask_any(command).await,
                _ => self.node.ask(command).await,
            };
            // They change nothing, so they have no fate.
            answer.map_err(|_| self.error(Unanswered::Closed))
        })
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        commands: &'a redis::Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        Box::pin(async move {
            let values =
                self.node.send(commands, offset, count).await.map_err(|failed| self.error(failed))?;
            let values = keep_what_ran(values);
            match self.why_not_followed(&values) {
                Some(failure) => Err(unsent(GIVE_UP, failure)),
                None => Ok(values),
            }
        })
    }

    fn get_db(&self) -> i64 {
        0
    }
}

/// Where a SET has run, the engine must not send it again for what a command before it met: a slot that was moved away
/// and back between the two.
fn keep_what_ran(mut values: Vec<Value>) -> Vec<Value> {
    let ran = values.iter().rposition(|value| matches!(value, Value::Okay)).unwrap_or_default();
    for value in values.iter_mut().take(ran).filter(|value| matches!(value, Value::ServerError(_))) {
        *value = Value::Nil;
    }
    values
}

impl Connect for Member {
    fn connect_with_config<'a, T>(info: T, config: AsyncConnectionConfig) -> RedisFuture<'a, Self>
    where
        T: IntoConnectionInfo + Send + 'a,
    {
        Box::pin(async move {
            let info = info.into_connection_info()?;
            let label = info.redis_settings().username().and_then(Label::from_user_name);
            let (Some(nodes), ConnectionAddr::Tcp(name, port)) = (label.and_then(Label::nodes), info.addr())
            else {
                return Err((ErrorKind::InvalidClientConfig, "no cluster of ours").into());
            };
            let host = Host { name: name.clone(), port: *port };
            match nodes.connect(host, config).await {
                Ok(node) => Ok(Self { node, nodes }),
                Err(failure) => Err(unsent(TRY_AGAIN, failure)),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::endpoint::{Login, Place};

    fn error_reply(text: &str) -> ServerError {
        match redis::parse_redis_value(format!("-{text}\r\n").as_bytes()) {
            Ok(Value::ServerError(error)) => error,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn where_a_redirection_leads_is_found() {
        for (text, name, port) in [
            ("MOVED 3999 127.0.0.1:6381", "127.0.0.1", 6381),
            ("ASK 3999 a.example:6381", "a.example", 6381),
            ("MOVED 3999 fe80::1:6381", "fe80::1", 6381),
            ("MOVED 3999 [fe80::1]:6381", "fe80::1", 6381),
        ] {
            let host = Host { name: name.to_owned(), port };
            assert_eq!(redirection(&error_reply(text)), Some(host), "{text}");
        }
        for text in ["CLUSTERDOWN 3999 a:1", "MOVED", "MOVED 3999 nowhere", "ASK 3999 a:b"] {
            assert_eq!(redirection(&error_reply(text)), None, "{text}");
        }
    }

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
