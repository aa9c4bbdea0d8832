//! Who the sentinels say is the master, now and for as long as somebody wants to know.
//!
//! The redis crate has an engine for this, and it was tried: it asks `SENTINEL MASTERS`, in which the sentinel that leads a
//! failover names the old master until the very end, takes the answers in the order of the list, so that one that hangs
//! costs its whole time limit, and does not ask again while a connection stands. A planned failover then had two
//! holders for as long as sentinel takes to demote the old master: 8 s.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, FromRedisValue, Value, from_redis_value};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::{JoinSet, spawn_local};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::connection::handshake::{Address, Connected, connect};
use crate::model::endpoint::{Endpoint, Host, Login, Place};
use crate::model::error::Error;
use crate::model::secret::Secret;
use crate::time::backoff::jittered;

/// Between two questions to one sentinel.
const PAUSE: Duration = Duration::from_secs(1);

/// How long a sentinel has for a connection, and for an answer.
const LIMIT: Duration = Duration::from_secs(1);

/// How long the other sentinels have to contradict the first that names a master: one may know of a newer one.
const TO_CONTRADICT: Duration = Duration::from_millis(100);

/// A master, and the epoch of the failover that made it one: of two, the later is the master.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Master {
    /// Where it is.
    pub host: Host,
    epoch: i64,
}

/// What one sentinel says: `None` where it knows no master of that name.
struct Answer {
    from: usize,
    said: Result<Option<Master>, Error>,
}

/// The sentinels of an endpoint, each of which is asked once a second. Dropping this ends that.
pub struct Sentinels {
    endpoint: Arc<Endpoint>,
    name: String,
    count: usize,
    answers: UnboundedReceiver<Answer>,
    /// Those that have named the master that is gone by: they have changed their mind if they name another.
    agreed: HashSet<usize>,
    _scouts: JoinSet<()>,
}

impl Sentinels {
    /// Begins to ask.
    #[must_use]
    pub fn ask(
        endpoint: &Arc<Endpoint>,
        sentinels: &[Host],
        name: &str,
        user: Option<&str>,
        password: &Secret,
    ) -> Self {
        let (sender, answers) = unbounded_channel();
        let mut scouts = JoinSet::new();
        for (from, sentinel) in sentinels.iter().enumerate() {
            let login = Login {
                user: user.map(ToOwned::to_owned),
                password: password.clone(),
                database: 0,
                ..endpoint.login.clone()
            };
            let place = Place::Server(sentinel.clone());
            let scout = Scout {
                from,
                main: Arc::clone(endpoint),
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
            scouts.spawn_local(scout.run());
        }
        Self {
            endpoint: Arc::clone(endpoint),
            name: name.to_owned(),
            count: sentinels.len(),
            answers,
            agreed: HashSet::new(),
            _scouts: scouts,
        }
    }

    /// The master, once a sentinel has named it and the others have had their say.
    ///
    /// # Errors
    /// What they said, if all of them have answered and none knows one.
    pub async fn master(&mut self) -> Result<Master, Error> {
        let mut named: Vec<(usize, Master)> = Vec::new();
        let mut heard = HashSet::new();
        let mut failure = None;
        let mut end = None;
        while heard.len() < self.count {
            let answer = match end {
                Some(end) => timeout_at(end, self.answers.recv()).await,
                None => Ok(self.answers.recv().await),
            };
            // The time to contradict is over. (The channel lives as long as the scouts.)
            let Ok(Some(Answer { from, said })) = answer else { break };
            heard.insert(from);
            match said {
                Ok(Some(master)) => {
                    end.get_or_insert_with(|| Instant::now() + TO_CONTRADICT);
                    named.push((from, master));
                }
                Ok(None) => failure = Some(self.nobody()),
                Err(error) if failure.is_none() || matches!(error, Error::Denied { .. }) => {
                    failure = Some(error);
                }
                Err(_) => {}
            }
        }
        let Some(newest) = named.iter().map(|(_, master)| master).max_by_key(|master| master.epoch).cloned()
        else {
            return Err(failure.unwrap_or_else(|| self.nobody()));
        };
        self.agreed = named
            .into_iter()
            .filter(|(_, master)| master.host == newest.host)
            .map(|(from, _)| from)
            .collect();
        Ok(newest)
    }

    /// The next master after `current`, once there is one.
    pub async fn newer_than(&mut self, current: &Master) -> Master {
        loop {
            let Some(Answer { from, said }) = self.answers.recv().await else {
                // There is nobody left to ask; the connection goes on without them.
                return std::future::pending().await;
            };
            let Ok(Some(master)) = said else { continue };
            if master.host == current.host {
                self.agreed.insert(from);
            } else if master.epoch > current.epoch || self.agreed.contains(&from) {
                self.agreed = HashSet::from([from]);
                return master;
            }
        }
    }

    fn nobody(&self) -> Error {
        Error::Connection {
            endpoint: Arc::clone(&self.endpoint),
            detail: format!("no sentinel knows a master {:?}; is the name right?", self.name),
            reason: "ENOTFOUND",
        }
    }
}

/// Asks one sentinel.
struct Scout {
    from: usize,
    /// What the sentinels lead to.
    main: Arc<Endpoint>,
    /// The sentinel as a redis of its own.
    endpoint: Arc<Endpoint>,
    sentinel: Host,
    name: String,
    sender: UnboundedSender<Answer>,
}

impl Scout {
    /// For as long as somebody listens.
    async fn run(self) {
        loop {
            let error = self.ask_until_it_fails().await;
            if self.sender.send(Answer { from: self.from, said: Err(self.told(error)) }).is_err() {
                return;
            }
            sleep(jittered(PAUSE)).await;
        }
    }

    async fn ask_until_it_fails(&self) -> Error {
        let address = Address::Host(&self.sentinel);
        let config = AsyncConnectionConfig::new();
        let connection = match connect(&self.endpoint, address, config, Instant::now() + LIMIT).await {
            Ok(Connected { connection, driver, .. }) => {
                // Ends with the last of those who send on it.
                spawn_local(driver);
                connection
            }
            Err(error) => return error,
        };
        loop {
            match timeout(LIMIT, self.question(&connection)).await {
                Ok(Ok(master)) => {
                    if self.sender.send(Answer { from: self.from, said: Ok(master) }).is_err() {
                        return self.silent();
                    }
                }
                Ok(Err(error)) => return error,
                Err(_) => return self.silent(),
            }
            sleep(jittered(PAUSE)).await;
        }
    }

    /// Where the master is, as [sentinel's clients are to ask](https://redis.io/docs/latest/develop/reference/sentinel-clients/),
    /// and since when.
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
        // Nil for a name that it does not know.
        let Some((name, port)) = read::<(String, u16)>(address) else { return Ok(None) };
        // An epoch that cannot be read is that of no failover yet; but one that we may not read is not passed over: of
        // two masters nobody could tell which is the later.
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

    /// An error as whoever wants the master is told it.
    fn told(&self, error: Error) -> Error {
        let (endpoint, sentinel) = (Arc::clone(&self.main), &self.sentinel);
        match error {
            Error::Denied { text, .. } => {
                Error::Denied { endpoint, text, sentinel: Some(Arc::clone(&self.endpoint)) }
            }
            Error::Connection { detail, reason, .. } => {
                Error::Connection { endpoint, detail: format!("sentinel {sentinel}: {detail}"), reason }
            }
            // One that is no sentinel, as a rule.
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
