//! A cluster: the crate's engine knows which node serves which slot, follows its redirections and mends its connections;
//! the connections themselves are made as those to a single server are.
//!
//! The engine may send a command again only where it certainly has not run. A redirection says so. A broken connection
//! does not: a SET that ran, and whose reply was lost, would find its own key and call it somebody else's. So what was
//! under way on a connection that broke is answered with [`is_lost`], which is ours to settle.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster::ClusterClientBuilder;
use redis::cluster_async::{ClusterConnection, Connect};
use redis::cluster_routing::{Route, SingleNodeRoutingInfo, SlotAddr};
use redis::{
    AsyncConnectionConfig, Cmd, ConnectionAddr, ErrorKind, IntoConnectionInfo, Pipeline, ProtocolVersion,
    PushInfo, RedisError, RedisFuture, RedisResult, ServerError, Value,
};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout};

use crate::clock::Moment;
use crate::connection::{Connected, Door, connect};
use crate::endpoint::{Endpoint, Host};
use crate::error::Error;

/// A node that leaves a command unanswered for this long is connected to again, and the engine looks who serves its
/// slots now. Also the limit of a connect: while the engine asks the nodes who serves what, all others wait.
const SILENCE: Duration = Duration::from_secs(1);

/// How long a silent node has to say that it is there after all.
const LAST_WORD: Duration = Duration::from_millis(250);

/// How often the engine sends a command on before it gives the refusal to us, and the pauses between, in milliseconds.
const REDIRECTIONS: u32 = 3;
const SHORTEST_PAUSE: u64 = 50;
const LONGEST_PAUSE: u64 = 100;

/// The clusters of this process. The engine makes its connections through a function without state; what it passes
/// through unread is a user's name, in whose place stands the number of the entry here.
static CLUSTERS: Mutex<Vec<Entry>> = Mutex::new(Vec::new());

struct Entry {
    endpoint: Arc<Endpoint>,
    /// Why the last connection to a node could not be made: the engine keeps no more than its text.
    failure: Option<Error>,
    /// Why a node does not tell of changed keys.
    why_no_pushes: Option<String>,
}

/// Why commands have no replies.
#[derive(Debug)]
pub enum Failure {
    /// An error reply, to all of them.
    Refused(ServerError),
    /// They were sent, and what became of them is unknown.
    Lost,
    /// They were not sent: there is no connection to the node that serves the key.
    Unsent(String),
}

/// A cluster's connection, and what its nodes say without being asked, or the reason why one of them says nothing.
type Opened = (ClusterConnection<Node>, Result<UnboundedReceiver<PushInfo>, String>);

/// Connects to a cluster: to those of `nodes` that answer, and to all others that these know of.
///
/// # Errors
/// What a node said, of those of which none let us in.
pub async fn open(endpoint: &Arc<Endpoint>, nodes: &[Host]) -> Result<Opened, Error> {
    let (sender, pushes) = unbounded_channel();
    let number = number_of(endpoint);
    // What was so of an earlier connection need not be so now.
    if let Some(entry) = clusters().get_mut(number) {
        (entry.failure, entry.why_no_pushes) = (None, None);
    }
    let addresses = nodes.iter().map(|node| ConnectionAddr::Tcp(node.name.clone(), node.port));
    let client = ClusterClientBuilder::new(addresses)
        .username(number.to_string())
        .use_protocol(ProtocolVersion::RESP3)
        .push_sender(sender)
        .retries(REDIRECTIONS)
        .min_retry_wait(SHORTEST_PAUSE)
        .max_retry_wait(LONGEST_PAUSE)
        .overall_response_timeout(None)
        .build();
    let connection = async { client?.get_async_generic_connection::<Node>().await }.await;
    let connection = connection.map_err(|error| why_not(endpoint, number, error))?;
    let why_no_pushes = clusters().get(number).and_then(|entry| entry.why_no_pushes.clone());
    Ok((connection, why_no_pushes.map_or(Ok(pushes), Err)))
}

/// Sends commands about one key to the node that serves it, in one write.
///
/// # Errors
/// Why there are no replies.
pub async fn send(
    mut connection: ClusterConnection<Node>,
    key: &[u8],
    pipeline: Pipeline,
) -> Result<Vec<Value>, Failure> {
    let node = SingleNodeRoutingInfo::SpecificNode(Route::with_key(key, SlotAddr::Master));
    let count = pipeline.len();
    connection.route_pipeline(pipeline, 0, count, node).await.map_err(|error| match error.kind() {
        LOST => Failure::Lost,
        _ => match ServerError::try_from(error) {
            Ok(refusal) => Failure::Refused(refusal),
            Err(error) => Failure::Unsent(error.to_string()),
        },
    })
}

fn clusters() -> std::sync::MutexGuard<'static, Vec<Entry>> {
    CLUSTERS.lock().unwrap_or_else(PoisonError::into_inner)
}

fn number_of(endpoint: &Arc<Endpoint>) -> usize {
    let mut clusters = clusters();
    let known = clusters.iter().position(|entry| Arc::ptr_eq(&entry.endpoint, endpoint));
    known.unwrap_or_else(|| {
        clusters.push(Entry { endpoint: Arc::clone(endpoint), failure: None, why_no_pushes: None });
        clusters.len() - 1
    })
}

fn why_not(endpoint: &Arc<Endpoint>, number: usize, error: RedisError) -> Error {
    if let Some(failure) = clusters().get_mut(number).and_then(|entry| entry.failure.take()) {
        return failure;
    }
    match ServerError::try_from(error) {
        Ok(refusal) => Error::from_reply(endpoint, "CLUSTER SLOTS", "", &refusal),
        Err(error) => Error::Connection {
            endpoint: Arc::clone(endpoint),
            detail: error.to_string(),
            reason: "ECONNRESET",
        },
    }
}

/// The connection to one node, as the engine uses it.
#[derive(Clone)]
pub struct Node {
    connection: MultiplexedConnection,
    health: Arc<Health>,
}

struct Health {
    /// It broke, or is silent: nothing is sent on it any more.
    is_dead: AtomicBool,
    /// When the first command was sent that is not answered, as [`Moment::to_bits`]; 0 while all are.
    asked: AtomicU64,
    /// Moves the bytes for as long as somebody holds the connection.
    driver: AbortHandle,
}

impl Drop for Health {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// The kind of the error that says that commands were sent and their replies will never come. One that the engine does
/// not send again for.
const LOST: ErrorKind = ErrorKind::UnexpectedReturnType;

impl Node {
    fn new(Connected { connection, driver, .. }: Connected) -> Self {
        let driver = tokio::spawn(driver).abort_handle();
        let health = Health { is_dead: AtomicBool::new(false), asked: AtomicU64::new(0), driver };
        Self { connection, health: Arc::new(health) }
    }

    /// An error with which the engine makes another connection, if this one is of no use. Nothing was sent.
    async fn check(&mut self) -> RedisResult<()> {
        let asked = self.health.asked.load(Ordering::Relaxed);
        if asked == 0 {
            self.health.asked.store(Moment::now().to_bits().max(1), Ordering::Relaxed);
        } else if Moment::from_bits(asked).after(SILENCE) < Moment::now() {
            // Or whoever asked has not waited for the answer.
            let ping = redis::cmd("PING");
            let answer = timeout(LAST_WORD, self.connection.send_packed_command(&ping)).await;
            let is_alive = matches!(answer, Ok(Ok(_)));
            self.health.asked.store(0, Ordering::Relaxed);
            self.health.is_dead.fetch_or(!is_alive, Ordering::Relaxed);
        }
        if self.health.is_dead.load(Ordering::Relaxed) {
            return Err(io::Error::from(io::ErrorKind::BrokenPipe).into());
        }
        Ok(())
    }

    fn heard<Reply>(&self, reply: RedisResult<Reply>) -> RedisResult<Reply> {
        self.health.asked.store(0, Ordering::Relaxed);
        reply.map_err(|_| {
            self.health.is_dead.store(true, Ordering::Relaxed);
            RedisError::from((LOST, "the reply was lost with the connection"))
        })
    }
}

impl ConnectionLike for Node {
    /// The engine's own questions. They change nothing, so they have a limit and no fate.
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        Box::pin(async move {
            self.check().await?;
            let answer = timeout(SILENCE, self.connection.send_packed_command(command)).await;
            let answer = answer.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut).into()));
            self.heard(answer).map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe).into())
        })
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        Box::pin(async move {
            self.check().await?;
            let values =
                timeout(2 * SILENCE, self.connection.send_packed_commands(pipeline, offset, count)).await;
            self.heard(values.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut).into())))
                .map(keep_what_ran)
        })
    }

    fn get_db(&self) -> i64 {
        self.connection.get_db()
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

impl Connect for Node {
    fn connect_with_config<'a, T>(info: T, config: AsyncConnectionConfig) -> RedisFuture<'a, Self>
    where
        T: IntoConnectionInfo + Send + 'a,
    {
        Box::pin(async move {
            let info = info.into_connection_info()?;
            let number = info.redis_settings().username().and_then(|number| number.parse().ok());
            let endpoint = number
                .and_then(|number: usize| clusters().get(number).map(|entry| Arc::clone(&entry.endpoint)));
            let (Some(number), Some(endpoint), ConnectionAddr::Tcp(name, port)) =
                (number, endpoint, info.addr())
            else {
                return Err((ErrorKind::InvalidClientConfig, "no cluster of ours").into());
            };
            let host = Host { name: name.clone(), port: *port };
            let failure = match timeout(
                SILENCE,
                connect(&endpoint, Door::Host(&host), config, Instant::now() + SILENCE),
            )
            .await
            {
                Ok(Ok(connected)) => {
                    if let (Some(reason), Some(entry)) =
                        (&connected.why_no_pushes, clusters().get_mut(number))
                    {
                        entry.why_no_pushes = Some(reason.clone());
                    }
                    return Ok(Self::new(connected));
                }
                Ok(Err(failure)) => failure,
                Err(_) => Error::Connection {
                    endpoint,
                    detail: format!("{host}: no connection within {} ms", SILENCE.as_millis()),
                    reason: "ETIMEDOUT",
                },
            };
            let text = failure.to_string();
            if let Some(entry) = clusters().get_mut(number) {
                entry.failure = Some(failure);
            }
            Err(io::Error::new(io::ErrorKind::ConnectionRefused, text).into())
        })
    }
}
