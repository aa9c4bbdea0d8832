//! The class that JavaScript sees. Only turns arguments into requests.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use napi::bindgen_prelude::{Either, Object, Uint32Array};
use napi::{Env, Error, Result, Status};
use napi_derive::napi;

use crate::addon::environment::Environment;
use crate::addon::environments;
use crate::connection::tls_config::config_of;
use crate::dispatcher::request::Request;
use crate::model::endpoint::{DEFAULT_CLIENT_NAME, Endpoint, Host, Login, Place, Protocol};
use crate::model::lease::{Interval, Terms};
use crate::model::reservation::Phase;
use crate::model::secret::Secret;
use crate::model::settings::{DEFAULT_CONNECT_TIMEOUT, DEFAULT_KEY_PREFIX, LogLevel, Settings};
use crate::model::tls::Tls;

/// A host and its port.
#[napi(object)]
pub struct HostOption {
    /// A name or an address.
    pub host: String,
    /// The port.
    pub port: u32,
}

/// The TLS options. Texts in PEM.
#[napi(object)]
pub struct TlsOptions {
    /// The certificates of the trusted authorities.
    pub ca: String,
    /// Our certificate, with its chain.
    pub cert: Option<String>,
    /// Our private key.
    pub key: Option<String>,
    /// The name that the server's certificate must have, if it is not the host's.
    pub servername: Option<String>,
    /// Whether the server's certificate is verified.
    #[napi(js_name = "reject_unauthorized")]
    pub reject_unauthorized: bool,
}

/// The options besides the seven arguments of 0.4.0, each with its default. Times in milliseconds.
#[napi(object)]
#[derive(Default)]
pub struct Options {
    /// The user. Default: redis's `default`.
    pub username: Option<String>,
    /// The database's number. Default: 0.
    pub db: Option<u32>,
    /// TLS. Default: none.
    pub tls: Option<TlsOptions>,
    /// Sentinels to ask for the master; host and port are then unused. Default: none.
    pub sentinels: Option<Vec<HostOption>>,
    /// The sentinels' name for the master.
    pub name: Option<String>,
    /// The user at the sentinels. Default: their `default`.
    #[napi(js_name = "sentinel_username")]
    pub sentinel_username: Option<String>,
    /// The password at the sentinels. Default: none.
    #[napi(js_name = "sentinel_password")]
    pub sentinel_password: Option<String>,
    /// Nodes of a cluster; host and port are then unused. Default: none.
    pub cluster: Option<Vec<HostOption>>,
    /// What CLIENT LIST shows as our name. Default: `redis-reservation`.
    #[napi(js_name = "client_name")]
    pub client_name: Option<String>,
    /// The protocol to speak: 2 or 3. Default: 3 if the server has it, else 2.
    pub protocol: Option<u32>,
    /// The start of every key. Default: `reservation-`.
    #[napi(js_name = "key_prefix")]
    pub key_prefix: Option<String>,
    /// How many replicas must have a lock before it counts. Default: 0.
    #[napi(js_name = "min_replicas")]
    pub min_replicas: Option<u32>,
    /// The limit for connecting, with the handshake. Default: 5,000.
    #[napi(js_name = "connect_timeout")]
    pub connect_timeout: Option<f64>,
    /// The limit for one command's reply. Default: a third of the ttl, at least 50, at most 5,000, and never more than
    /// the ttl.
    #[napi(js_name = "command_timeout")]
    pub command_timeout: Option<f64>,
    /// How long after its acquisition a reservation stops being renewed and counts as lost. Default: never.
    #[napi(js_name = "max_hold")]
    pub max_hold: Option<f64>,
    /// Which events are reported: 0 losses only, 1 failures too, 2 all. Default: 2.
    #[napi(js_name = "log_level")]
    pub log_level: Option<u32>,
}

/// The native object, shared by instances with the same fields. index.d.ts says what each method does. Here arguments
/// are strict, errors are plain objects, and calls and reservations are numbers. JavaScript chooses those of calls.
#[napi(js_name = "ReserveResource")]
pub struct ReserveResource {
    environment: Rc<Environment>,
    settings: Arc<Settings>,
}

#[napi]
impl ReserveResource {
    /// `by` starts every value. `heartbeat_interval` is in milliseconds: 0 or less is a third of the ttl, `Infinity` is
    /// never. `lock_ttl` is in seconds. `listener.deliver(letters)` gets answers and events in batches
    /// (`lib/telling/events.js`).
    #[allow(clippy::too_many_arguments, reason = "the signature of 0.4.0")]
    #[napi(constructor, catch_unwind)]
    pub fn new(
        env: Env,
        by: String,
        host: String,
        port: u32,
        heartbeat_interval: f64,
        lock_ttl: f64,
        listener: Object,
        password: String,
        options: Option<Options>,
    ) -> Result<Self> {
        let settings = settings_of(by, host, port, heartbeat_interval, lock_ttl, password, options)?;
        Ok(Self { environment: environments::environment(&env, &listener)?, settings: Arc::new(settings) })
    }

    /// Tries once. The listener gets the answer under the number `call`.
    #[napi(catch_unwind)]
    pub fn lock(&self, env: Env, resource: String, call: u32) -> Result<()> {
        let ticket = self.environment.begin(&env, call.into())?;
        let settings = Arc::clone(&self.settings);
        self.environment.submit(Request::Lock { ticket, settings, resource });
        Ok(())
    }

    /// Waits. `instance` is the number of the calling instance; `timeout` is in milliseconds.
    #[napi(js_name = "wait_until_lock", catch_unwind)]
    pub fn wait_until_lock(
        &self,
        env: Env,
        resource: String,
        call: u32,
        instance: u32,
        timeout: Option<f64>,
    ) -> Result<()> {
        let timeout = timeout.filter(|timeout| timeout.is_finite()).map(milliseconds);
        let ticket = self.environment.begin(&env, call.into())?;
        let settings = Arc::clone(&self.settings);
        self.environment.submit(Request::Wait { ticket, instance, settings, resource, timeout });
        Ok(())
    }

    /// Cancels a wait: it is answered with `ABORTED`, unless it was answered before.
    #[napi(js_name = "cancel_wait", catch_unwind)]
    pub fn cancel_wait(&self, resource: String, call: u32) {
        let (settings, environment) = (Arc::clone(&self.settings), self.environment.id());
        self.environment.submit(Request::CancelWait { settings, resource, environment, call: call.into() });
    }

    /// Releases the reservations of these numbers.
    #[napi(catch_unwind)]
    pub fn release(&self, env: Env, handles: Either<u32, Uint32Array>, call: u32) {
        let asked = self.environment.reservations(numbers(&handles));
        let ticket = self.environment.begin_release(&env, call.into(), asked.clone());
        self.environment.submit(Request::release(ticket, asked));
    }

    /// Renews those of these that are held, to the current ttl.
    #[napi(js_name = "ensure_reservation", catch_unwind)]
    pub fn ensure_reservation(&self, env: Env, handles: Uint32Array, call: u32) {
        let mut reservations = self.environment.reservations(&handles);
        reservations.retain(|reservation| reservation.phase() == Phase::Held);
        let ticket = self.environment.begin_without_limit(&env, call.into());
        let ttl = self.settings.terms.ttl;
        self.environment.submit(Request::Renew { ticket, reservations, ttl });
    }

    /// True if all of these are held, and their leases certain at this instant.
    #[napi(js_name = "are_held", catch_unwind)]
    pub fn are_held(&self, handles: Uint32Array) -> bool {
        self.environment.are_certain(&handles)
    }

    /// True if this one is held, and its lease certain at this instant.
    #[napi(js_name = "is_held", catch_unwind)]
    pub fn is_held(&self, handle: u32) -> bool {
        self.environment.are_certain(&[handle])
    }

    /// The value of this reservation. Known until JavaScript has read the delivery that tells of its end.
    #[napi(js_name = "value_of", catch_unwind)]
    pub fn value_of(&self, handle: u32) -> Option<String> {
        self.environment.value_of(handle)
    }

    /// A newer reservation has the key of this one, with the value `newer`. Returns the fields of its loss if the caller of this
    /// is to tell it: `{ key, val, holder, message, quiet }`; only `{ quiet }` if the others could not be made.
    #[napi(catch_unwind)]
    pub fn supersede<'env>(
        &self,
        env: &'env Env,
        handle: u32,
        newer: String,
    ) -> Result<Option<Object<'env>>> {
        self.environment.supersede(env, handle, &newer)
    }

    /// Nobody can release this reservation any more; its lease has ended.
    #[napi(catch_unwind)]
    pub fn forget(&self, handle: u32) {
        self.environment.forget(handle);
    }
}

fn numbers(handles: &Either<u32, Uint32Array>) -> &[u32] {
    match handles {
        Either::A(handle) => std::slice::from_ref(handle),
        Either::B(handles) => handles,
    }
}

#[allow(dead_code, reason = "called from JavaScript alone")]
/// Closes the shared connection of an endpoint, unless something needs it. The listener gets the answer under the
/// number `call`.
#[napi(catch_unwind)]
pub fn disconnect(
    env: Env,
    host: String,
    port: u32,
    password: String,
    options: Option<Options>,
    listener: Object,
    call: u32,
) -> Result<()> {
    let endpoint = endpoint_of(host, port, password, &mut options.unwrap_or_default(), None)?;
    let environment = environments::environment(&env, &listener)?;
    let ticket = environment.begin(&env, call.into())?;
    environment.submit(Request::Disconnect { ticket, endpoint });
    Ok(())
}

fn settings_of(
    owner: String,
    host: String,
    port: u32,
    heartbeat_interval: f64,
    lock_ttl: f64,
    password: String,
    options: Option<Options>,
) -> Result<Settings> {
    let ttl = Duration::try_from_secs_f64(lock_ttl)
        .ok()
        // Redis counts whole milliseconds, and the lease must not last longer than the key.
        .map(whole_milliseconds)
        .filter(|ttl| *ttl >= Duration::from_millis(1))
        .ok_or_else(|| {
            invalid(format!("lock_ttl must be a number of seconds, 0.001 or more; it is {lock_ttl}"))
        })?;
    let interval = if heartbeat_interval > 0.0 {
        // Longer than the clock counts is never.
        Duration::try_from_secs_f64(heartbeat_interval / 1000.0).map_or(Interval::Never, Interval::Every)
    } else {
        Interval::Third
    };
    let mut options = options.unwrap_or_default();
    let command_timeout = options
        .command_timeout
        .map_or_else(|| Settings::default_command_timeout(ttl), |limit| milliseconds(limit).min(ttl));
    let min_replicas = options.min_replicas.unwrap_or_default();
    let waits_for_replicas = (min_replicas > 0).then_some(command_timeout);
    Ok(Settings {
        endpoint: endpoint_of(host, port, password, &mut options, waits_for_replicas)?,
        key_prefix: options.key_prefix.unwrap_or_else(|| DEFAULT_KEY_PREFIX.to_owned()),
        min_replicas,
        owner,
        terms: Terms { ttl, interval, max_hold: options.max_hold.map(milliseconds) },
        connect_timeout: options.connect_timeout.map_or(DEFAULT_CONNECT_TIMEOUT, milliseconds),
        command_timeout,
        log_level: match options.log_level {
            Some(0) => LogLevel::Silent,
            Some(1) => LogLevel::Errors,
            _ => LogLevel::Info,
        },
    })
}

/// The endpoint of the arguments and options. Takes the values that it uses out of `options`.
fn endpoint_of(
    host: String,
    port: u32,
    password: String,
    options: &mut Options,
    waits_for_replicas: Option<Duration>,
) -> Result<Arc<Endpoint>> {
    let place = match (options.sentinels.take(), options.cluster.take()) {
        (Some(sentinels), _) => Place::Sentinels {
            sentinels: hosts_of(sentinels)?,
            name: options.name.take().unwrap_or_default(),
            user: user_of(options.sentinel_username.take()),
            password: Secret::new(options.sentinel_password.take().unwrap_or_default()),
        },
        (None, Some(nodes)) => Place::Cluster(hosts_of(nodes)?),
        (None, None) if host.starts_with('/') => Place::Socket(host),
        (None, None) => Place::Server(Host { name: host, port: port_of(port)? }),
    };
    let login = Login {
        user: user_of(options.username.take()),
        password: Secret::new(password),
        database: options.db.unwrap_or_default(),
        client_name: options.client_name.take().unwrap_or_else(|| DEFAULT_CLIENT_NAME.to_owned()),
        protocol: match options.protocol {
            Some(2) => Some(Protocol::Resp2),
            Some(3) => Some(Protocol::Resp3),
            _ => None,
        },
    };
    let tls = options.tls.take().map(|tls| {
        let identity = tls.cert.zip(tls.key.map(Secret::new));
        Tls::new(tls.ca, identity, tls.servername, tls.reject_unauthorized)
    });
    let endpoint = Endpoint { place, login, tls, waits_for_replicas }.shared();
    // Parsed here, so that the first call fails for an invalid certificate, and not each attempt to connect.
    if let Some(tls) = &endpoint.tls {
        config_of(tls).map_err(invalid)?;
    }
    Ok(endpoint)
}

fn user_of(name: Option<String>) -> Option<String> {
    name.filter(|name| !name.is_empty())
}

fn hosts_of(hosts: Vec<HostOption>) -> Result<Vec<Host>> {
    hosts.into_iter().map(|one| Ok(Host { name: one.host, port: port_of(one.port)? })).collect()
}

fn port_of(port: u32) -> Result<u16> {
    u16::try_from(port).map_err(|_| invalid(format!("port must be a number from 1 to 65535; it is {port}")))
}

fn whole_milliseconds(duration: Duration) -> Duration {
    Duration::from_millis(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}

/// Saturates: the longest duration if the number is more than the clock counts, zero if it is negative.
fn milliseconds(number: f64) -> Duration {
    Duration::try_from_secs_f64(number / 1000.0).unwrap_or(if number > 0.0 {
        Duration::MAX
    } else {
        Duration::ZERO
    })
}

fn invalid(sentence: String) -> Error {
    Error::new(Status::InvalidArg, sentence)
}
