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
        /// What they call it.
        name: String,
        /// Who we are to them; `None` is their `default`.
        user: Option<String>,
        /// What they themselves ask for.
        password: Secret,
    },
    /// A cluster, of which these nodes are known.
    Cluster(Vec<Host>),
}

/// What CLIENT LIST shows us as when nothing else is said.
pub const DEFAULT_CLIENT_NAME: &str = "redis-reservation";

/// As whom we log in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Login {
    /// The user; `None` is redis's `default`.
    pub user: Option<String>,
    /// Its password.
    pub password: Secret,
    /// The number of the database.
    pub database: u32,
    /// What CLIENT LIST shows us as.
    pub client_name: String,
    /// The one protocol that is spoken; `None` is RESP3 where the server has it, else RESP2.
    pub protocol: Option<Protocol>,
}

/// A version of [redis's protocol](https://redis.io/docs/latest/develop/reference/protocol-spec/).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// Redis's oldest: the server cannot tell of changes, so waiters poll.
    Resp2,
    /// Since redis 6.
    Resp3,
}

/// A redis, and how to log in to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Where.
    pub place: Place,
    /// As whom.
    pub login: Login,
    /// Over TLS, if that is set.
    pub tls: Option<Tls>,
    /// Set where locks wait for replicas: the limit of their commands. Redis answers nothing else on a connection while
    /// it waits, so they have one of their own, with those whose limits allow for as much.
    pub waits_for_replicas: Option<Duration>,
}

// As the derived one would, but without the texts of the certificates: what differs in nothing else is rare.
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

/// The endpoints that somebody has: an instance's settings, or the core.
static KNOWN: LazyLock<Mutex<Known>> = LazyLock::new(Mutex::default);

/// By their hash. Each is kept for as long as somebody has it, and its password no longer than that.
#[derive(Default)]
struct Known {
    by_hash: HashMap<u64, Vec<Weak<Endpoint>>>,
    /// How many there were when those that are gone were last swept out.
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
    /// The one copy of this endpoint in the process. Two calls share a connection if they share this.
    #[must_use]
    pub fn shared(self) -> Arc<Self> {
        KNOWN.lock().unwrap_or_else(PoisonError::into_inner).copy_of(self)
    }

    /// True for two that are the same redis with the same login, whatever their calls wait for.
    #[must_use]
    pub fn is_same_redis(&self, other: &Self) -> bool {
        (&self.place, &self.login, &self.tls) == (&other.place, &other.login, &other.tls)
    }

    /// What is left of it when its credentials are taken away: two that are alike in this are used for the same.
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

    /// Host and port as log lines and errors show them: of the server, or of the first one that leads to it.
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

    /// True for a cluster: several connections, whose answers keep no order among them.
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
    fn an_endpoint_that_nobody_has_is_let_go() {
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
