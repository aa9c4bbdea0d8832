//! Asks the sentinels who the master is, now and for as long as somebody wants to know.
//!
//! The redis crate has an engine for this, and it was tried. It asks `SENTINEL MASTERS`, in which the sentinel that
//! leads a failover names the old master until the very end. It asks one sentinel after the other, so one that hangs
//! costs its whole time limit. And it does not ask again while a connection is up. So during a planned failover a lock
//! had two holders for as long as the demotion of the old master takes: 8 s.

use std::collections::{HashMap, HashSet};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, FromRedisValue, Value, from_redis_value};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::connection::handshake::{Address, Connected, connect};
use crate::model::endpoint::{Endpoint, Host, Login, Place};
use crate::model::error::Error;
use crate::model::secret::Secret;
use crate::runtime::task::spawn_boxed;
use crate::time::backoff::jittered;

/// Pause between two questions to one sentinel.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// The limit for connecting to a sentinel, and for each of its answers.
const LIMIT: Duration = Duration::from_secs(1);

/// How long the other sentinels have to answer after the first one: one of them may know a newer master.
const TIME_FOR_OTHERS: Duration = Duration::from_millis(100);

/// A master, and the epoch of the failover that made it one. The later epoch counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Master {
    /// Its address.
    pub host: Host,
    epoch: i64,
}

/// The answer of one sentinel: `None` if it knows no master of that name.
struct Answer {
    from: usize,
    result: Result<Option<Master>, Error>,
}

/// The sentinels of an endpoint. Each is asked once a second, until this is dropped.
pub struct Sentinels {
    endpoint: Arc<Endpoint>,
    name: String,
    count: usize,
    answers: UnboundedReceiver<Answer>,
    /// The sentinels that have named the current master. If one of these names another, it has changed its mind.
    agreed: HashSet<usize>,
    _pollers: JoinSet<()>,
}

impl Sentinels {
    /// Starts asking.
    #[must_use]
    pub fn ask(
        endpoint: &Arc<Endpoint>,
        sentinels: &[Host],
        name: &str,
        user: Option<&str>,
        password: &Secret,
    ) -> Self {
        let (sender, answers) = unbounded_channel();
        let mut pollers = JoinSet::new();
        for (from, sentinel) in sentinels.iter().enumerate() {
            let login = Login {
                user: user.map(ToOwned::to_owned),
                password: password.clone(),
                database: 0,
                ..endpoint.login.clone()
            };
            let place = Place::Server(sentinel.clone());
            let poller = Poller {
                from,
                target: Arc::clone(endpoint),
                endpoint: Arc::new(Endpoint {
                    place,
                    login,
                    tls: endpoint.tls.clone(),
                    waits_for_replicas: None,
                }),
                sentinel: sentinel.clone(),
                name: name.to_owned(),
                sender: sender.clone(),
            };
            pollers.spawn_local(Box::pin(poller.run()) as Pin<Box<dyn Future<Output = ()>>>);
        }
        Self {
            endpoint: Arc::clone(endpoint),
            name: name.to_owned(),
            count: sentinels.len(),
            answers,
            agreed: HashSet::new(),
            _pollers: pollers,
        }
    }

    /// The master: the newest that any sentinel names, shortly after the first one has named one.
    ///
    /// # Errors
    /// If all sentinels have answered, and none knows a master.
    pub async fn master(&mut self) -> Result<Master, Error> {
        let mut named: Vec<(usize, Master)> = Vec::new();
        let mut answered = HashSet::new();
        let mut failure = None;
        let mut end = None;
        while answered.len() < self.count {
            let answer = match end {
                Some(end) => timeout_at(end, self.answers.recv()).await,
                None => Ok(self.answers.recv().await),
            };
            // The time of the others is over. (The channel lives as long as the tasks that ask.)
            let Ok(Some(Answer { from, result })) = answer else { break };
            answered.insert(from);
            match result {
                Ok(Some(master)) => {
                    end.get_or_insert_with(|| Instant::now() + TIME_FOR_OTHERS);
                    named.push((from, master));
                }
                Ok(None) => failure = Some(self.no_master()),
                Err(error) if failure.is_none() || matches!(error, Error::Denied { .. }) => {
                    failure = Some(error);
                }
                Err(_) => {}
            }
        }
        let Some(newest) = named.iter().map(|(_, master)| master).max_by_key(|master| master.epoch).cloned()
        else {
            return Err(failure.unwrap_or_else(|| self.no_master()));
        };
        self.agreed = named
            .into_iter()
            .filter(|(_, master)| master.host == newest.host)
            .map(|(from, _)| from)
            .collect();
        Ok(newest)
    }

    /// Waits for the next master after `current`.
    pub async fn newer_than(&mut self, current: &Master) -> Master {
        loop {
            let Some(Answer { from, result }) = self.answers.recv().await else {
                // Nobody is left to ask. The connection stays as it is.
                return std::future::pending().await;
            };
            let Ok(Some(master)) = result else { continue };
            if master.host == current.host {
                self.agreed.insert(from);
            } else if master.epoch > current.epoch || self.agreed.contains(&from) {
                self.agreed = HashSet::from([from]);
                return master;
            }
        }
    }

    fn no_master(&self) -> Error {
        Error::Connection {
            endpoint: Arc::clone(&self.endpoint),
            detail: format!("no sentinel knows a master {:?}; is the name right?", self.name),
            reason: "ENOTFOUND",
        }
    }
}

/// The task that asks one sentinel.
struct Poller {
    from: usize,
    /// The endpoint whose master is looked for.
    target: Arc<Endpoint>,
    /// The sentinel as an endpoint.
    endpoint: Arc<Endpoint>,
    sentinel: Host,
    name: String,
    sender: UnboundedSender<Answer>,
}

impl Poller {
    /// Asks until nobody listens any more.
    async fn run(self) {
        loop {
            let error = self.ask_until_it_fails().await;
            if self.sender.send(Answer { from: self.from, result: Err(self.for_caller(error)) }).is_err() {
                return;
            }
            sleep(jittered(POLL_INTERVAL)).await;
        }
    }

    async fn ask_until_it_fails(&self) -> Error {
        let address = Address::Host(&self.sentinel);
        let config = AsyncConnectionConfig::new();
        let connection = match connect(&self.endpoint, address, config, Instant::now() + LIMIT).await {
            Ok(Connected { connection, driver, .. }) => {
                // Ends when the last sender on it is dropped.
                spawn_boxed(driver);
                connection
            }
            Err(error) => return error,
        };
        loop {
            match timeout(LIMIT, self.question(&connection)).await {
                Ok(Ok(master)) => {
                    if self.sender.send(Answer { from: self.from, result: Ok(master) }).is_err() {
                        return self.silent();
                    }
                }
                Ok(Err(error)) => return error,
                Err(_) => return self.silent(),
            }
            sleep(jittered(POLL_INTERVAL)).await;
        }
    }

    /// Asks where the master is, as
    /// [clients are told to](https://redis.io/docs/latest/develop/reference/sentinel-clients/), and for its epoch.
    async fn question(&self, connection: &MultiplexedConnection) -> Result<Option<Master>, Error> {
        let mut pipeline = redis::Pipeline::with_capacity(2);
        pipeline.cmd("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(&self.name);
        pipeline.cmd("SENTINEL").arg("MASTER").arg(&self.name);
        let replies = connection.clone().send_packed_commands(&pipeline, 0, 2).await;
        let mut replies = replies.map_err(|_| self.silent())?.into_iter();
        let (address, details) = (replies.next().unwrap_or(Value::Nil), replies.next().unwrap_or(Value::Nil));
        if let Value::ServerError(error) = &address {
            return Err(Error::from_reply(&self.endpoint, "SENTINEL GET-MASTER-ADDR-BY-NAME", "", error));
        }
        // Nil: the sentinel does not know the name.
        let Some((name, port)) = read::<(String, u16)>(address) else { return Ok(None) };
        // An epoch that cannot be parsed counts as 0, that of no failover. But if the sentinel forbids us to read it,
        // that is an error: without it nobody can tell which of two masters is the later.
        if let Value::ServerError(error) = &details
            && let error @ Error::Denied { .. } =
                Error::from_reply(&self.endpoint, "SENTINEL MASTER", "", error)
        {
            return Err(error);
        }
        let details: HashMap<String, String> = read(details).unwrap_or_default();
        let epoch = details.get("config-epoch").and_then(|epoch| epoch.parse().ok()).unwrap_or_default();
        Ok(Some(Master { host: Host { name, port }, epoch }))
    }

    fn silent(&self) -> Error {
        Error::Connection {
            endpoint: Arc::clone(&self.endpoint),
            detail: format!("no answer within {} ms", LIMIT.as_millis()),
            reason: "ETIMEDOUT",
        }
    }

    /// The error as the caller of the endpoint sees it.
    fn for_caller(&self, error: Error) -> Error {
        let (endpoint, sentinel) = (Arc::clone(&self.target), &self.sentinel);
        match error {
            Error::Denied { text, .. } => {
                Error::Denied { endpoint, text, sentinel: Some(Arc::clone(&self.endpoint)) }
            }
            Error::Connection { detail, reason, .. } => {
                Error::Connection { endpoint, detail: format!("sentinel {sentinel}: {detail}"), reason }
            }
            // Usually it is no sentinel.
            Error::Reply { text, .. } => Error::Connection {
                endpoint,
                detail: format!("sentinel {sentinel}: {}", text.trim_end()),
                reason: "EPROTO",
            },
            other => other,
        }
    }
}

fn read<T: FromRedisValue>(value: Value) -> Option<T> {
    from_redis_value(value).ok()
}
