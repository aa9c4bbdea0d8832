//! Making one connection to one server: handshake, name, tracking, and the scripts. It heals nothing; link.rs does.

use std::pin::Pin;
use std::sync::Arc;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, ProtocolVersion, RedisConnectionInfo, RedisError, Value};
use tokio::time::{Instant, timeout_at};

use crate::connection::banner::{Banner, Heard, Look};
use crate::connection::dial::{Stream, reach_host, reach_socket};
use crate::connection::send_queue::HAND_IN_ROOM;
use crate::model::endpoint::{Endpoint, Host, Login, Place, Protocol};
use crate::model::error::Error;
use crate::model::quote::without;
use crate::model::refusal::{Class, class_of, words_of};
use crate::protocol::command::{self, Identity};

/// More than all answers of a handshake. What has no end must not be kept until the time is up.
const MOST_ANSWERED: usize = 64 * 1024;

/// A connection that has passed its handshake.
pub struct Connected {
    /// Sends pipelines; clones share the socket.
    pub connection: MultiplexedConnection,
    /// Moves the bytes. Ends when the connection does; dropping it closes the socket.
    pub driver: Pin<Box<dyn Future<Output = ()> + Send>>,
    /// What the server knows this connection by, so that it can be killed later.
    pub identity: Option<Identity>,
    /// Why the server does not tell of changed keys, where it does not.
    pub why_no_pushes: Option<String>,
}

/// Where one server is.
#[derive(Clone, Copy, Debug)]
pub enum Address<'a> {
    /// A host and a port.
    Host(&'a Host),
    /// The path of a unix socket.
    Socket(&'a str),
}

/// Connects to one server and logs in. `config` says where its pushes go.
///
/// # Errors
/// [`Error::Connection`] where there is nobody to talk to, or nobody talks before the `deadline`; [`Error::Denied`] where
/// the credentials are refused; [`Error::Reply`] for any other refusal.
pub async fn connect(
    endpoint: &Arc<Endpoint>,
    address: Address<'_>,
    config: AsyncConnectionConfig,
    deadline: Instant,
) -> Result<Connected, Error> {
    let wanted = endpoint.login.protocol;
    if wanted != Some(Protocol::Resp2) {
        // RESP3 where the server has it. Whatever a server dislikes about `HELLO 3` (too old, renamed, forbidden to this
        // user) it may still be fine with RESP2, except for credentials that are wrong in any protocol.
        match reach_and_log_in(endpoint, address, Some(config), true, deadline).await {
            Err(Error::Reply { class: Class::Final, .. }) if wanted.is_none() => {}
            Err(Error::Denied { ref text, .. }) if wanted.is_none() && text.starts_with("NOPERM") => {}
            done => return done,
        }
    }
    match reach_and_log_in(endpoint, address, None, true, deadline).await {
        // A password that the server does not ask for is accepted: RESP2's AUTH is the only one to object.
        Err(Error::Reply { ref text, .. }) if text.contains("without any password configured") => {
            reach_and_log_in(endpoint, address, None, false, deadline).await
        }
        done => done,
    }
}

async fn reach_and_log_in(
    endpoint: &Arc<Endpoint>,
    address: Address<'_>,
    pushes: Option<AsyncConnectionConfig>,
    with_password: bool,
    deadline: Instant,
) -> Result<Connected, Error> {
    let stream = match address {
        Address::Host(host) => reach_host(endpoint, host, deadline).await?,
        Address::Socket(path) => reach_socket(endpoint, path).await?,
    };
    let banner = Banner::default();
    let stream = Heard::new(stream, banner.clone(), MOST_ANSWERED);
    let connected = timeout_at(deadline, shake_hands(endpoint, stream, &banner, pushes, with_password)).await;
    banner.end();
    connected.unwrap_or_else(|_| Err(silent(endpoint, &banner)))
}

/// With `pushes` it speaks RESP3, without RESP2.
async fn shake_hands(
    endpoint: &Arc<Endpoint>,
    stream: Heard<Box<dyn Stream>>,
    banner: &Banner,
    pushes: Option<AsyncConnectionConfig>,
    with_password: bool,
) -> Result<Connected, Error> {
    let (protocol, mut why_no_pushes) = match pushes {
        Some(_) => (ProtocolVersion::RESP3, None),
        None => (ProtocolVersion::RESP2, Some("RESP2 is spoken, which knows no such messages".to_owned())),
    };
    let login = login_of(&endpoint.login, protocol, with_password);
    // Limits are set per command, by whoever sends it: the crate's own would cut every command at 500 ms.
    let config = pushes
        .unwrap_or_default()
        .set_response_timeout(None)
        .set_connection_timeout(None)
        .set_pipeline_buffer_size(HAND_IN_ROOM);
    let (connection, driver) = MultiplexedConnection::new_with_config(&login, stream, config)
        .await
        .map_err(|error| handshake_error(endpoint, banner, &error))?;
    // The crate takes any answer to HELLO that is no error, also that of an echo.
    if let Some(error) = no_redis(endpoint, banner) {
        return Err(error);
    }
    let mut driver: Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(driver);

    let prepared = tokio::select! {
        result = prepare(&connection, &endpoint.login) => {
            result.map_err(|error| handshake_error(endpoint, banner, &error))?
        }
        () = &mut driver => return Err(broken_off(endpoint, banner, CLOSED)),
    };
    if let Value::ServerError(error) = prepared.tracking {
        why_no_pushes.get_or_insert(words_of(&error));
    }
    if let Value::ServerError(error) = &prepared.information {
        match Error::from_reply(endpoint, "CLIENT INFO", "", error) {
            // A server that does not know CLIENT INFO, or forbids it, is no worse a lock server for it.
            Error::Denied { text, .. } if text.starts_with("NOPERM") => {}
            Error::Reply { class: Class::Final, .. } => {}
            error => return Err(error),
        }
    }
    let identity = Identity::from_reply(&prepared.information);
    Ok(Connected { connection, driver, identity, why_no_pushes })
}

fn login_of(login: &Login, protocol: ProtocolVersion, with_password: bool) -> RedisConnectionInfo {
    let mut info = RedisConnectionInfo::default()
        .set_protocol(protocol)
        .set_db(login.database.into())
        .set_lib_name("redis-reservation", env!("CARGO_PKG_VERSION"));
    if with_password && (login.user.is_some() || login.password.reveal().is_some()) {
        // A user without a password is let in with any, but has to be named.
        info = info.set_password(login.password.reveal().unwrap_or_default());
        if let Some(user) = &login.user {
            info = info.set_username(user);
        }
    }
    info
}

/// What the server said to the commands that come before any other.
struct Prepared {
    information: Value,
    tracking: Value,
}

/// Asks what we are known by and to be told of keys that change, gives our name, and makes the scripts known: one round
/// trip. OPTIN, so that only the keys that are read for it are watched; and never NOLOOP, under which our own write ends a watch unseen. A
/// refused SCRIPT LOAD is no matter: the first use of a script that the server does not know sends its source.
async fn prepare(connection: &MultiplexedConnection, login: &Login) -> Result<Prepared, RedisError> {
    let mut pipeline = redis::Pipeline::with_capacity(6);
    pipeline.cmd("CLIENT").arg("INFO");
    pipeline.cmd("CLIENT").arg("TRACKING").arg("ON").arg("OPTIN");
    // Refused to some users, and missed by nobody but who reads CLIENT LIST.
    pipeline.cmd("CLIENT").arg("SETNAME").arg(&login.client_name);
    for script in [&command::EXTEND, &command::RELEASE, &command::HAND_OVER] {
        pipeline.add_command(script.load());
    }
    let count = pipeline.len();
    let mut replies = connection.clone().send_packed_commands(&pipeline, 0, count).await?.into_iter();
    Ok(Prepared {
        information: replies.next().unwrap_or(Value::Nil),
        tracking: replies.next().unwrap_or(Value::Nil),
    })
}

fn handshake_error(endpoint: &Arc<Endpoint>, banner: &Banner, error: &RedisError) -> Error {
    if let Some(error) = no_redis(endpoint, banner) {
        return error;
    }
    if matches!(error.kind(), redis::ErrorKind::Parse) {
        return broken_off(endpoint, banner, "the server's answer is cut off, or no answer of redis");
    }
    if error.is_io_error() {
        let how = error.to_string();
        return broken_off(endpoint, banner, if error.is_connection_dropped() { CLOSED } else { &how });
    }
    // The crate's own words for a refused AUTH leave out the server's.
    if error.kind() == redis::ErrorKind::AuthenticationFailed
        && let Some(text) = banner.refusal()
    {
        return refused(endpoint, text);
    }
    refused(
        endpoint,
        match (error.code(), error.detail()) {
            (Some(code), Some(detail)) if !detail.starts_with(code) => format!("{code} {detail}"),
            (_, Some(detail)) => detail.to_owned(),
            // Of the crate itself, where the server has said something, and nothing that is an answer.
            (Some(_), None) if banner.refusal().is_none() => {
                return failed(endpoint, "the server's answer is none to AUTH", "EPROTO");
            }
            (Some(code), None) => code.to_owned(),
            (None, None) => error.to_string(),
        },
    )
}

const CLOSED: &str = "the server closed the connection";

/// The error that says what answers there, where that is no redis.
fn no_redis(endpoint: &Arc<Endpoint>, banner: &Banner) -> Option<Error> {
    let what = match banner.look(endpoint.login.password.reveal()) {
        Look::Nothing | Look::Redis => return None,
        Look::Tls => "the server answers in TLS; set options.tls, or begin its URL with rediss://".to_owned(),
        Look::Echo => {
            "what answers there is no redis, it sends back what it is sent; is the port right?".to_owned()
        }
        Look::Foreign(Some(line)) => {
            format!("what answers there is no redis, it says {line:?}; is the port right?")
        }
        Look::Foreign(None) => "what answers there is no redis; is the port right?".to_owned(),
    };
    Some(failed(endpoint, &what, "EPROTO"))
}

/// The connection broke during the handshake. If the server said why, that is the reason.
fn broken_off(endpoint: &Arc<Endpoint>, banner: &Banner, how: &str) -> Error {
    match banner.refusal() {
        Some(text) => refused(endpoint, text),
        None => failed(endpoint, &format!("{how}{}", hint(endpoint, banner, how)), "ECONNRESET"),
    }
}

/// The handshake has no end in time.
fn silent(endpoint: &Arc<Endpoint>, banner: &Banner) -> Error {
    no_redis(endpoint, banner).unwrap_or_else(|| {
        let secret = endpoint.login.password.reveal();
        let how = match (banner.look(None), banner.refusal()) {
            (Look::Nothing, _) => {
                "the server takes the connection and says nothing; does it hang, or is the port somebody else's?".to_owned()
            }
            (_, Some(text)) => format!("the server has answered {:?}, and then no more", without(text, secret)),
            _ => "the server has answered in part, and then no more".to_owned(),
        };
        failed(endpoint, &how, "ETIMEDOUT")
    })
}

fn failed(endpoint: &Arc<Endpoint>, what: &str, reason: &'static str) -> Error {
    Error::Connection { endpoint: Arc::clone(endpoint), detail: format!("handshake: {what}"), reason }
}

/// What a server that breaks off without a word may have wanted.
fn hint(endpoint: &Endpoint, banner: &Banner, how: &str) -> &'static str {
    const CERTIFICATE: &str = "; does it want a certificate of its clients (tls.cert, tls.key)?";
    let identity = endpoint.tls.as_ref().map(|tls| tls.identity.is_some());
    // With TLS 1.3 a server looks at a client's certificate when the client thinks that all is well.
    if identity.is_some() && how.contains("fatal alert") {
        return CERTIFICATE;
    }
    if banner.look(None) != Look::Nothing {
        return "";
    }
    match (identity, &endpoint.place) {
        (Some(false), _) => CERTIFICATE,
        (None, Place::Server(_) | Place::Sentinels { .. } | Place::Cluster(_)) => {
            "; does it want TLS (options.tls)? A proxy that knows neither HELLO nor CLIENT (twemproxy) hangs up as well: \
             connect to the redis behind it"
        }
        _ => {
            "; a proxy that knows neither HELLO nor CLIENT (twemproxy) hangs up like this: connect to the redis behind it"
        }
    }
}

fn refused(endpoint: &Arc<Endpoint>, mut text: String) -> Error {
    let class = class_of(&text);
    // A server that does not know HELLO or AUTH quotes what came with it: the password.
    if let Some(quotation) = text.find(", with args beginning with") {
        text.truncate(quotation);
    }
    let text = without(text, endpoint.login.password.reveal());
    match class {
        Class::Denied => Error::Denied { endpoint: Arc::clone(endpoint), text, sentinel: None },
        class => {
            Error::Reply { endpoint: Arc::clone(endpoint), command: "HELLO", key: String::new(), text, class }
        }
    }
}
