//! Which redis is meant: where it is, and how to log in to it. Equal endpoints share one connection.

use std::collections::HashMap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};
use std::time::Duration;

use rustc_hash::FxHasher;

use crate::model::secret::Secret;
use crate::model::tls::Tls;

/// A host name or an address, and a TCP port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Host {
    /// A host name, or an IPv4 or IPv6 address without brackets.
    pub name: String,
    /// The port.
    pub port: u16,
}

impl fmt::Display for Host {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.name.contains(':') {
            write!(formatter, "[{}]:{}", self.name, self.port)
        } else {
            write!(formatter, "{}:{}", self.name, self.port)
        }
    }
}

/// Where redis is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// One server.
    Server(Host),
    /// One server, behind a unix socket.
    Socket(String),
    /// Whichever server these sentinels say is the master of this name.
    Sentinels {
        /// The sentinels.
        sentinels: Vec<Host>,
        /// The sentinels' name for the master.
        name: String,
        /// The user at the sentinels; `None` is their `default`.
        user: Option<String>,
        /// The password at the sentinels.
        password: Secret,
    },
    /// A cluster, through any of these nodes.
    Cluster(Vec<Host>),
}

/// The default for [`Login::client_name`].
pub const DEFAULT_CLIENT_NAME: &str = "redis-reservation";

/// How we log in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Login {
    /// The user; `None` is redis's `default`.
    pub user: Option<String>,
    /// Its password.
    pub password: Secret,
    /// The database's number.
    pub database: u32,
    /// What CLIENT LIST shows as our name.
    pub client_name: String,
    /// The protocol to speak; `None` is RESP3 if the server has it, else RESP2.
    pub protocol: Option<Protocol>,
}

/// A version of [redis's protocol](https://redis.io/docs/latest/develop/reference/protocol-spec/).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// The older one. With it the server cannot report changes, so waiters poll.
    Resp2,
    /// Since redis 6.
    Resp3,
}

/// A redis, and how to log in to it. Equal endpoints share a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Where.
    pub place: Place,
    /// How we log in.
    pub login: Login,
    /// TLS, if the connection uses it.
    pub tls: Option<Tls>,
    /// For locks that wait for replicas: their command limit. Redis answers nothing else on a connection while it runs
    /// WAIT, so these locks have a connection of their own, shared by those with the same limit.
    pub waits_for_replicas: Option<Duration>,
}

// Like the derived one, without the texts of the certificates: endpoints rarely differ in those alone.
impl Hash for Endpoint {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.place.hash(state);
        self.login.hash(state);
        self.tls.is_some().hash(state);
        self.waits_for_replicas.hash(state);
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Server(host) => write!(formatter, "{host}"),
            Place::Socket(path) => formatter.write_str(path),
            Place::Sentinels { sentinels, name, .. } => {
                write!(formatter, "{name} (sentinels {})", listed(sentinels))
            }
            Place::Cluster(nodes) => write!(formatter, "cluster {}", listed(nodes)),
        }
    }
}

fn listed(hosts: &[Host]) -> String {
    hosts.iter().map(Host::to_string).collect::<Vec<_>>().join(", ")
}

/// Every endpoint that is in use, by an instance's settings or by the core.
static KNOWN: LazyLock<Mutex<Known>> = LazyLock::new(Mutex::default);

/// Endpoints by their hash. The references are weak, so an endpoint and its password are dropped with their last user.
#[derive(Default)]
struct Known {
    by_hash: HashMap<u64, Vec<Weak<Endpoint>>>,
    /// The number of hashes after the last sweep of dropped endpoints.
    after_sweep: usize,
}

impl Known {
    fn copy_of(&mut self, endpoint: Endpoint) -> Arc<Endpoint> {
        let mut hasher = FxHasher::default();
        endpoint.hash(&mut hasher);
        let alike = self.by_hash.entry(hasher.finish()).or_default();
        if let Some(known) = alike.iter().filter_map(Weak::upgrade).find(|known| **known == endpoint) {
            return known;
        }
        let endpoint = Arc::new(endpoint);
        alike.push(Arc::downgrade(&endpoint));
        if self.by_hash.len() > 2 * self.after_sweep + 16 {
            self.by_hash.retain(|_, alike| {
                alike.retain(|known| known.strong_count() > 0);
                !alike.is_empty()
            });
            self.after_sweep = self.by_hash.len();
        }
        endpoint
    }
}

impl Endpoint {
    /// The process's one copy of this endpoint. Calls that share it share a connection.
    #[must_use]
    pub fn shared(self) -> Arc<Self> {
        KNOWN.lock().unwrap_or_else(PoisonError::into_inner).copy_of(self)
    }

    /// True if both are the same redis with the same login, whether or not their calls wait for replicas.
    #[must_use]
    pub fn is_same_redis(&self, other: &Self) -> bool {
        (&self.place, &self.login, &self.tls) == (&other.place, &other.login, &other.tls)
    }

    /// The endpoint without its credentials. Endpoints that are equal in this serve the same purpose, for example
    /// before and after a password was rotated.
    #[must_use]
    pub fn without_credentials(&self) -> impl Hash + Eq + '_ {
        let Login { database, client_name, protocol, .. } = &self.login;
        (&self.place, database, client_name, protocol, self.tls.is_some(), self.waits_for_replicas)
    }

    /// The user as redis calls it.
    #[must_use]
    pub fn user(&self) -> &str {
        self.login.user.as_deref().unwrap_or("default")
    }

    /// Host and port for log lines and errors: those of the server, or of the first sentinel or node. Port 0 for a unix
    /// socket.
    #[must_use]
    pub fn address(&self) -> (&str, u16) {
        match &self.place {
            Place::Server(host) => (&host.name, host.port),
            Place::Socket(path) => (path, 0),
            Place::Sentinels { sentinels: hosts, .. } | Place::Cluster(hosts) => {
                hosts.first().map_or(("", 0), |host| (&host.name, host.port))
            }
        }
    }

    /// True for a cluster: it has several connections, and their replies come in any order.
    #[must_use]
    pub fn is_cluster(&self) -> bool {
        matches!(self.place, Place::Cluster(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(place: Place) -> Endpoint {
        let login = Login { password: Secret::new("hunter2".into()), ..Login::default() };
        Endpoint { place, login, tls: None, waits_for_replicas: None }
    }

    fn host(name: &str, port: u16) -> Host {
        Host { name: name.into(), port }
    }

    #[test]
    fn nothing_that_prints_an_endpoint_prints_its_password() {
        let sentinels = Place::Sentinels {
            sentinels: vec![host("a", 1), host("b", 2)],
            name: "main".into(),
            user: Some("scout".into()),
            password: Secret::new("hunter2".into()),
        };
        for (place, shown) in [
            (Place::Server(host("example", 6379)), "example:6379"),
            (Place::Server(host("::1", 6379)), "[::1]:6379"),
            (Place::Socket("/run/redis.sock".into()), "/run/redis.sock"),
            (sentinels, "main (sentinels a:1, b:2)"),
            (Place::Cluster(vec![host("a", 1), host("b", 2)]), "cluster a:1, b:2"),
        ] {
            let endpoint = endpoint(place);
            assert_eq!(format!("{endpoint}"), shown);
            assert!(!format!("{endpoint:?}").contains("hunter2"));
            assert!(!format!("{endpoint:#?}").contains("hunter2"));
        }
    }

    #[test]
    fn equal_endpoints_are_one_and_others_are_not() {
        let first = endpoint(Place::Server(host("shared", 1))).shared();
        let again = endpoint(Place::Server(host("shared", 1))).shared();
        let other = Endpoint { login: Login::default(), ..(*first).clone() }.shared();
        assert!(Arc::ptr_eq(&first, &again));
        assert!(!Arc::ptr_eq(&first, &other));
    }

    #[test]
    fn an_unused_endpoint_is_dropped() {
        let mut known = Known::default();
        let kept = known.copy_of(endpoint(Place::Server(host("kept", 1))));
        let gone: Vec<_> = (1..=1_000)
            .map(|port| Arc::downgrade(&known.copy_of(endpoint(Place::Server(host("gone", port))))))
            .collect();
        assert!(gone.iter().all(|one| one.strong_count() == 0));
        assert!(known.by_hash.len() < 100, "{} are known", known.by_hash.len());
        assert!(Arc::ptr_eq(&kept, &known.copy_of(endpoint(Place::Server(host("kept", 1))))));
    }
}
