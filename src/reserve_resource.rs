//! The class that JavaScript sees. Turns arguments into requests, and knows what its instance holds; nothing more.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use napi::bindgen_prelude::{Function, Object, This};
use napi::{Env, Error, Result, Status};
use napi_derive::napi;

use crate::bridge;
use crate::core::Request;
use crate::endpoint::{DEFAULT_CLIENT_NAME, Endpoint, Host, Login, Place, Protocol, Secret};
use crate::environment::{Environment, Kind};
use crate::instance::Instance;
use crate::lease::Terms;
use crate::settings::{DEFAULT_CONNECT_TIMEOUT, DEFAULT_KEY_PREFIX, LogLevel, Settings};
use crate::tls::Tls;

/// A host and its port.
#[napi(object)]
pub struct HostOption {
    /// A name or an address.
    pub host: String,
    /// The port.
    pub port: u32,
}

/// How to encrypt, and whom to trust. Texts in PEM.
#[napi(object)]
pub struct TlsOptions {
    /// Certificates of those who may vouch for a server.
    pub ca: String,
    /// Our certificate, with its chain.
    pub cert: Option<String>,
    /// Its key.
    pub key: Option<String>,
    /// Whose certificate the server must show, where that is not its host.
    pub servername: Option<String>,
    /// Whether a server's certificate is verified.
    #[napi(js_name = "reject_unauthorized")]
    pub reject_unauthorized: bool,
}

/// What may be set beside the seven arguments of 0.4.0. Times in milliseconds.
#[napi(object)]
#[derive(Default)]
pub struct Options {
    /// The user; redis's `default`.
    pub username: Option<String>,
    /// The number of the database; 0.
    pub db: Option<u32>,
    /// TLS; none.
    pub tls: Option<TlsOptions>,
    /// Sentinels to ask for the master; host and port are not used then.
    pub sentinels: Option<Vec<HostOption>>,
    /// The master's name among them.
    pub name: Option<String>,
    /// The sentinels' own password.
    #[napi(js_name = "sentinel_password")]
    pub sentinel_password: Option<String>,
    /// Nodes of a cluster; host and port are not used then.
    pub cluster: Option<Vec<HostOption>>,
    /// What CLIENT LIST shows; `redis-reservation`.
    #[napi(js_name = "client_name")]
    pub client_name: Option<String>,
    /// 2 or 3, the one protocol to speak; 3 where the server has it.
    pub protocol: Option<u32>,
    /// The start of every key; `reservation-`.
    #[napi(js_name = "key_prefix")]
    pub key_prefix: Option<String>,
    /// How many replicas must have a lock; 0.
    #[napi(js_name = "min_replicas")]
    pub min_replicas: Option<u32>,
    /// How long a connect and its handshake may take; 5,000.
    #[napi(js_name = "connect_timeout")]
    pub connect_timeout: Option<f64>,
    /// How long a command may go unanswered; a third of the ttl within 50 and 5,000, never above the ttl.
    #[napi(js_name = "command_timeout")]
    pub command_timeout: Option<f64>,
    /// How long after its acquisition a reservation is no longer renewed and counts as lost; never.
    #[napi(js_name = "max_hold")]
    pub max_hold: Option<f64>,
    /// Which events `log` is called for: 0 none but losses, 1 failures, 2 all; 2.
    #[napi(js_name = "log_level")]
    pub log_level: Option<u32>,
}

/// Reservations of one worker. See index.d.ts for what each method does; here arguments are strict and errors are
/// plain objects.
#[napi(js_name = "ReserveResource")]
pub struct ReserveResource {
    environment: Rc<Environment>,
    instance: Rc<Instance>,
    settings: RefCell<Arc<Settings>>,
}

#[napi]
impl ReserveResource {
    /// `by` starts every value; `heartbeat_interval` in milliseconds, 0 or less is a third of the ttl, `Infinity`
    /// never; `lock_ttl` in seconds. `log(name, fields)` is called for what happens without a call.
    #[allow(clippy::too_many_arguments, reason = "the signature of 0.4.0")]
    #[napi(constructor, catch_unwind)]
    pub fn new(
        env: Env,
        mut this: This,
        by: String,
        host: String,
        port: u32,
        heartbeat_interval: f64,
        lock_ttl: f64,
        log: Option<Function>,
        password: String,
        options: Option<Options>,
    ) -> Result<Self> {
        let settings = settings_of(by, host, port, heartbeat_interval, lock_ttl, password, options)?;
        bridge::core()?;
        if let Some(log) = log {
            this.object.set("log", log)?;
        }
        Ok(Self {
            environment: bridge::environment(&env)?,
            instance: Instance::new(),
            settings: RefCell::new(Arc::new(settings)),
        })
    }

    /// Sets what later calls use. What is held stays with what it was acquired with.
    #[allow(clippy::too_many_arguments, reason = "the signature of 0.4.0")]
    #[napi(catch_unwind)]
    pub fn configure(
        &self,
        by: String,
        host: String,
        port: u32,
        heartbeat_interval: f64,
        lock_ttl: f64,
        password: String,
        options: Option<Options>,
    ) -> Result<()> {
        let settings = settings_of(by, host, port, heartbeat_interval, lock_ttl, password, options)?;
        *self.settings.borrow_mut() = Arc::new(settings);
        Ok(())
    }

    /// One attempt: `callback(err, true, key, val)` or `callback(err, false, key, holder)`.
    #[napi(catch_unwind)]
    pub fn lock(&self, env: Env, this: This, resource: String, callback: Function) -> Result<()> {
        let ticket =
            self.environment.begin(&env, Some(&this.object), &self.instance, Kind::Plain, callback)?;
        let settings = Arc::clone(&self.settings.borrow());
        bridge::core()?.submit(Request::Lock { ticket, settings, resource });
        Ok(())
    }

    /// Waits: `callback(err, key, val)`. Gives the number of the call, for `cancel_wait`. `timeout` in milliseconds.
    #[napi(js_name = "wait_until_lock", catch_unwind)]
    pub fn wait_until_lock(
        &self,
        env: Env,
        this: This,
        resource: String,
        callback: Function,
        timeout: Option<f64>,
    ) -> Result<i64> {
        let timeout = timeout.filter(|timeout| timeout.is_finite()).map(milliseconds);
        let settings = Arc::clone(&self.settings.borrow());
        let kind = Kind::Wait(Arc::clone(&settings), resource.clone());
        let ticket = self.environment.begin(&env, Some(&this.object), &self.instance, kind, callback)?;
        let call = ticket.call;
        bridge::core()?.submit(Request::Wait { ticket, settings, resource, timeout });
        // 2^53 calls are more than a process makes.
        Ok(i64::try_from(call).unwrap_or(i64::MAX))
    }

    /// The waiter leaves; its callback gets `ABORTED` unless it was answered before.
    #[napi(js_name = "cancel_wait", catch_unwind)]
    pub fn cancel_wait(&self, call: i64) -> Result<()> {
        let cancellation = u64::try_from(call).ok().and_then(|call| self.environment.cancellation(call));
        if let Some(cancellation) = cancellation {
            bridge::core()?.submit(cancellation);
        }
        Ok(())
    }

    /// Frees one resource, or all: `callback(err, released)`.
    #[napi(catch_unwind)]
    pub fn release(&self, env: Env, this: This, resource: Option<String>, callback: Function) -> Result<()> {
        let key = resource.map(|resource| self.settings.borrow().key_of(&resource));
        let holdings = self.instance.to_release(key.as_deref());
        for holding in &holdings {
            holding.give_up();
        }
        let kind = Kind::On(holdings.clone());
        let ticket = self.environment.begin(&env, Some(&this.object), &self.instance, kind, callback)?;
        bridge::core()?.submit(Request::Release { ticket, holdings });
        Ok(())
    }

    /// Renews all that is held, for the ttl as it is set now: `callback(err)`.
    #[napi(js_name = "ensure_reservation", catch_unwind)]
    pub fn ensure_reservation(&self, env: Env, this: This, callback: Function) -> Result<()> {
        let holdings = self.instance.to_renew();
        let kind = Kind::On(holdings.clone());
        let ticket = self.environment.begin(&env, Some(&this.object), &self.instance, kind, callback)?;
        let ttl = self.settings.borrow().terms.ttl;
        bridge::core()?.submit(Request::Renew { ticket, holdings, ttl });
        Ok(())
    }

    /// At least one is held, and every one is certain at this very instant.
    #[napi(catch_unwind)]
    pub fn held(&self) -> bool {
        self.instance.holds_for_certain()
    }

    /// This one is held, and certain at this very instant.
    #[napi(js_name = "is_held", catch_unwind)]
    pub fn is_held(&self, resource: String) -> bool {
        self.instance.holds(&self.settings.borrow().key_of(&resource))
    }
}

#[allow(dead_code, reason = "called from JavaScript alone")]
/// Closes the shared connection of an endpoint, if nothing needs it: `callback(err, 'OK')`.
#[napi(catch_unwind)]
pub fn disconnect(
    env: Env,
    host: String,
    port: u32,
    password: String,
    options: Option<Options>,
    callback: Function,
) -> Result<()> {
    let endpoint = endpoint_of(host, port, password, &mut options.unwrap_or_default())?;
    let ticket =
        bridge::environment(&env)?.begin(&env, None::<&Object>, &Instance::new(), Kind::Plain, callback)?;
    bridge::core()?.submit(Request::Disconnect { ticket, endpoint });
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
        .filter(|ttl| *ttl >= Duration::from_millis(1))
        .ok_or_else(|| {
            invalid(format!("lock_ttl must be a number of seconds, 0.001 or more; it is {lock_ttl}"))
        })?;
    let interval = if heartbeat_interval > 0.0 {
        // What no clock can count is never.
        Duration::try_from_secs_f64(heartbeat_interval / 1000.0).ok()
    } else {
        Some(Terms::default_interval(ttl))
    };
    let mut options = options.unwrap_or_default();
    Ok(Settings {
        endpoint: endpoint_of(host, port, password, &mut options)?,
        key_prefix: options.key_prefix.unwrap_or_else(|| DEFAULT_KEY_PREFIX.to_owned()),
        min_replicas: options.min_replicas.unwrap_or_default(),
        owner,
        terms: Terms { ttl, interval, max_hold: options.max_hold.map(milliseconds) },
        connect_timeout: options.connect_timeout.map_or(DEFAULT_CONNECT_TIMEOUT, milliseconds),
        command_timeout: options
            .command_timeout
            .map_or_else(|| Settings::default_command_timeout(ttl), |limit| milliseconds(limit).min(ttl)),
        log_level: match options.log_level {
            Some(0) => LogLevel::Silent,
            Some(1) => LogLevel::Errors,
            _ => LogLevel::Info,
        },
    })
}

/// The endpoint that the arguments and options mean; what is used of the options is taken out of them.
fn endpoint_of(host: String, port: u32, password: String, options: &mut Options) -> Result<Arc<Endpoint>> {
    let place = match (options.sentinels.take(), options.cluster.take()) {
        (Some(sentinels), _) => Place::Sentinels {
            sentinels: hosts_of(sentinels)?,
            name: options.name.take().unwrap_or_default(),
            password: Secret::new(options.sentinel_password.take().unwrap_or_default()),
        },
        (None, Some(nodes)) => Place::Cluster(hosts_of(nodes)?),
        (None, None) if host.starts_with('/') => Place::Socket(host),
        (None, None) => Place::Server(Host { name: host, port: port_of(port)? }),
    };
    let login = Login {
        user: options.username.take().filter(|user| !user.is_empty()),
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
    let endpoint = Endpoint { place, login, tls }.shared();
    // Here, so that what cannot be read is told by the first call, and not by each attempt to connect.
    if let Some(tls) = &endpoint.tls {
        tls.config().map_err(invalid)?;
    }
    Ok(endpoint)
}

fn hosts_of(hosts: Vec<HostOption>) -> Result<Vec<Host>> {
    hosts.into_iter().map(|one| Ok(Host { name: one.host, port: port_of(one.port)? })).collect()
}

fn port_of(port: u32) -> Result<u16> {
    u16::try_from(port).map_err(|_| invalid(format!("port must be a number from 1 to 65535; it is {port}")))
}

/// A duration; the longest there is where JavaScript's number is more than a clock can count, none where it is less.
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
