//! Makes one connection to one server: login, client name, tracking, scripts. Mending it is the business of
//! supervisor.rs.

use std::pin::Pin;
use std::sync::Arc;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, ProtocolVersion, RedisConnectionInfo, RedisError, Value};
use tokio::time::{Instant, timeout_at};

use crate::connection::banner::{Banner, PeerKind, Recorded};
use crate::connection::dial::{reach_host, reach_socket};
use crate::connection::send_queue::CRATE_BUFFER;
use crate::connection::socket::Stream;
use crate::model::endpoint::{Endpoint, Host, Login, Place, Protocol};
use crate::model::error::Error;
use crate::model::quote::without;
use crate::model::refusal::{Class, class_of, words_of};
use crate::protocol::command::{self, Identity};

/// More than all replies of a handshake together. A stream without end must not be kept in memory until the time is
/// over.
const MAX_REPLY_BYTES: usize = 64 * 1024;

/// A connection that has passed its handshake.
pub struct Connected {
    /// Sends pipelines; clones share the socket.
    pub connection: MultiplexedConnection,
    /// Moves the bytes. Ends with the connection; dropping it closes the socket.
    pub driver: Pin<Box<dyn Future<Output = ()> + Send>>,
    /// How the server knows this connection, so that it can be killed later.
    pub identity: Option<Identity>,
    /// Why the server does not report changes of keys, if it does not.
    pub why_no_pushes: Option<String>,
}

/// The address of one server.
#[derive(Clone, Copy, Debug)]
pub enum Address<'a> {
    /// A host and a port.
    Host(&'a Host),
    /// The path of a unix socket.
    Socket(&'a str),
}

/// Connects to one server and logs in. `config` has the channel for its push messages.
///
/// # Errors
/// [`Error::Connection`] if the server cannot be reached or does not answer by the `deadline`; [`Error::Denied`] if it
/// refuses the credentials; [`Error::Reply`] for any other refusal.
pub async fn connect(
    endpoint: &Arc<Endpoint>,
    address: Address<'_>,
    config: AsyncConnectionConfig,
    deadline: Instant,
) -> Result<Connected, Error> {
    let wanted = endpoint.login.protocol;
    if wanted != Some(Protocol::Resp2) {
        // RESP3 if the server has it. A server that rejects `HELLO 3` (it is too old, or the command is renamed or
        // forbidden to this user) may accept RESP2, but not with wrong credentials.
        match reach_and_log_in(endpoint, address, Some(config), true, deadline).await {
            Err(Error::Reply { class: Class::Final, .. }) if wanted.is_none() => {}
            Err(Error::Denied { ref text, .. }) if wanted.is_none() && text.starts_with("NOPERM") => {}
            done => return done,
        }
    }
    match reach_and_log_in(endpoint, address, None, true, deadline).await {
        // Only RESP2's AUTH rejects a password that the server does not ask for.
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
    let stream = Recorded::new(stream, banner.clone(), MAX_REPLY_BYTES);
    let connected = timeout_at(deadline, shake_hands(endpoint, stream, &banner, pushes, with_password)).await;
    banner.end();
    connected.unwrap_or_else(|_| Err(silent(endpoint, &banner)))
}

/// Does the handshake: in RESP3 with `pushes`, else in RESP2.
async fn shake_hands(
    endpoint: &Arc<Endpoint>,
    stream: Recorded<Box<dyn Stream>>,
    banner: &Banner,
    pushes: Option<AsyncConnectionConfig>,
    with_password: bool,
) -> Result<Connected, Error> {
    let (protocol, mut why_no_pushes) = match pushes {
        Some(_) => (ProtocolVersion::RESP3, None),
        None => (ProtocolVersion::RESP2, Some("RESP2 is spoken, which knows no such messages".to_owned())),
    };
    let login = login_of(&endpoint.login, protocol, with_password);
    // Limits are set for each command. The crate's own would time out every command after 500 ms.
    let config = pushes
        .unwrap_or_default()
        .set_response_timeout(None)
        .set_connection_timeout(None)
        .set_pipeline_buffer_size(CRATE_BUFFER);
    let (connection, driver) = MultiplexedConnection::new_with_config(&login, stream, config)
        .await
        .map_err(|error| handshake_error(endpoint, banner, &error))?;
    // The crate accepts any answer to HELLO that is no error, even an echo.
    if let Some(error) = no_redis(endpoint, banner) {
        return Err(error);
    }
    let mut driver: Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(driver);

    let prepared = tokio::select! {
        biased;
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
            // A server that does not know CLIENT INFO, or forbids it, can serve locks all the same.
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
        // A user without a password accepts any password, but has to be named.
        info = info.set_password(login.password.reveal().unwrap_or_default());
        if let Some(user) = &login.user {
            info = info.set_username(user);
        }
    }
    info
}

/// Replies to the commands that come before all others.
struct Prepared {
    information: Value,
    tracking: Value,
}

/// Sends the first commands, in one round trip: asks for our identity, turns on tracking, sets our name, loads the
/// scripts. Tracking is OPTIN, so only the keys that are read for it are watched; and never NOLOOP, with which our own
/// write would end a watch without a report. A refused SCRIPT LOAD does no harm: the first call of a script that the
/// server does not have sends its source.
async fn prepare(connection: &MultiplexedConnection, login: &Login) -> Result<Prepared, RedisError> {
    let mut pipeline = redis::Pipeline::with_capacity(6);
    pipeline.cmd("CLIENT").arg("INFO");
    pipeline.cmd("CLIENT").arg("TRACKING").arg("ON").arg("OPTIN");
    // Some users may not do this. It only matters to readers of CLIENT LIST.
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
    // The crate reports a refused AUTH without the server's words.
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
            // The crate's own error: what the server sent is no reply.
            (Some(_), None) if banner.refusal().is_none() => {
                return failed(endpoint, "the server's answer is none to AUTH", "EPROTO");
            }
            (Some(code), None) => code.to_owned(),
            (None, None) => error.to_string(),
        },
    )
}

const CLOSED: &str = "the server closed the connection";

/// The error that says what answers there, if it is no redis.
fn no_redis(endpoint: &Arc<Endpoint>, banner: &Banner) -> Option<Error> {
    let what = match banner.peer_kind(endpoint.login.password.reveal()) {
        PeerKind::Nothing | PeerKind::Redis => return None,
        PeerKind::Tls => {
            "the server answers in TLS; set options.tls, or begin its URL with rediss://".to_owned()
        }
        PeerKind::Echo => {
            "what answers there is no redis, it sends back what it is sent; is the port right?".to_owned()
        }
        PeerKind::Foreign(Some(line)) => {
            format!("what answers there is no redis, it says {line:?}; is the port right?")
        }
        PeerKind::Foreign(None) => "what answers there is no redis; is the port right?".to_owned(),
    };
    Some(failed(endpoint, &what, "EPROTO"))
}

/// The connection broke during the handshake. If the server said why, that is the error.
fn broken_off(endpoint: &Arc<Endpoint>, banner: &Banner, how: &str) -> Error {
    match banner.refusal().filter(|text| !is_about_client(text)) {
        Some(text) => refused(endpoint, text),
        None => failed(endpoint, &format!("{how}{}", hint(endpoint, banner, how)), "ECONNRESET"),
    }
}

/// True if a server refuses CLIENT SETINFO, which those before 7.2 do not know. In RESP2 without a password that is the
/// first that they say. It is no reason to hang up.
fn is_about_client(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    // Not a server that quotes what it was sent.
    let says = |words: &str| text.contains(words);
    (says("subcommand") && says("'setinfo'"))
        || ["try client (", "command 'client'", "command `client`", "'client|setinfo'"]
            .iter()
            .any(|words| says(words))
}

/// The handshake has timed out.
fn silent(endpoint: &Arc<Endpoint>, banner: &Banner) -> Error {
    no_redis(endpoint, banner).unwrap_or_else(|| {
        let secret = endpoint.login.password.reveal();
        let how = match (banner.peer_kind(None), banner.refusal()) {
            (PeerKind::Nothing, _) => {
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

/// What a server may have wanted that closes the connection without saying why.
fn hint(endpoint: &Endpoint, banner: &Banner, how: &str) -> &'static str {
    const CERTIFICATE: &str = "; does it want a certificate of its clients (tls.cert, tls.key)?";
    let identity = endpoint.tls.as_ref().map(|tls| tls.identity.is_some());
    // With TLS 1.3 a server checks the client's certificate after the client has completed the handshake.
    if identity.is_some() && how.contains("fatal alert") {
        return CERTIFICATE;
    }
    if banner.peer_kind(None) != PeerKind::Nothing {
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
    // A server that does not know HELLO or AUTH quotes their arguments, and so the password.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_setinfo_is_no_reason_to_hang_up() {
        for text in [
            "ERR Unknown subcommand or wrong number of arguments for 'SETINFO'. Try CLIENT HELP.",
            "ERR unknown subcommand 'SETINFO'. Try CLIENT HELP.",
            "ERR Syntax error, try CLIENT (LIST | KILL | GETNAME | SETNAME | PAUSE | REPLY)",
            "ERR unknown command 'CLIENT'",
            "ERR unknown command `CLIENT`, with args beginning with: `SETINFO`, `LIB-NAME`, ",
            "NOPERM this user has no permissions to run the 'client|setinfo' command",
        ] {
            assert!(is_about_client(text), "{text}");
        }
        for text in [
            "ERR max number of clients reached",
            "DENIED Redis is running in protected mode because protected mode is enabled",
            "ERR unknown command 'HELLO'",
            "NOAUTH Authentication required.",
        ] {
            assert!(!is_about_client(text), "{text}");
        }
    }
}
