//! Making one connection: address, socket options, handshake, and the two scripts. It heals nothing; link.rs does.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::io::tcp::socket2;
use redis::{
    AsyncConnectionConfig, Pipeline, ProtocolVersion, PushInfo, RedisConnectionInfo, RedisError, Value,
};
use tokio::net::TcpStream;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::command::{self, Identity};
use crate::endpoint::Endpoint;
use crate::error::{Class, Error, class_of, words_of};
use crate::greeting::{Greeting, Heard};
use crate::live::HAND_IN_ROOM;

/// A connection that has passed its handshake.
pub struct Opened {
    /// Sends pipelines; clones share the socket.
    pub connection: MultiplexedConnection,
    /// Moves the bytes. Ends when the connection does; dropping it closes the socket.
    pub driver: Pin<Box<dyn Future<Output = ()>>>,
    /// What the server knows this connection by, so that it can be killed later.
    pub identity: Option<Identity>,
    /// What the server says without being asked, where it tells of changed keys; else the reason why it does not.
    pub pushes: Result<UnboundedReceiver<PushInfo>, String>,
}

/// Connects and logs in within `limit`.
///
/// # Errors
/// [`Error::Connection`] where there is nobody to talk to, or nobody talks in time; [`Error::Denied`] where the
/// credentials are refused; [`Error::Reply`] for any other refusal.
pub async fn open(endpoint: &Endpoint, limit: Duration) -> Result<Opened, Error> {
    let Ok(opened) = tokio::time::timeout(limit, open_unlimited(endpoint)).await else {
        return Err(Error::Connection {
            endpoint: endpoint.to_string(),
            detail: format!("no connection within {} ms (connect_timeout)", limit.as_millis()),
            reason: "ETIMEDOUT",
        });
    };
    opened
}

async fn open_unlimited(endpoint: &Endpoint) -> Result<Opened, Error> {
    // RESP3 where the server has it. Whatever a server dislikes about `HELLO 3` (too old, renamed, forbidden to this
    // user) it may still be fine with RESP2, except for credentials that are wrong in any protocol.
    match shake_hands(endpoint, ProtocolVersion::RESP3, true).await {
        Err(Error::Reply { class: Class::Final, .. }) => {}
        Err(Error::Denied { ref text, .. }) if text.starts_with("NOPERM") => {}
        done => return done,
    }
    match shake_hands(endpoint, ProtocolVersion::RESP2, true).await {
        // A password that the server does not ask for is accepted: RESP2's AUTH is the only one to object.
        Err(Error::Reply { ref text, .. }) if text.contains("without any password configured") => {
            shake_hands(endpoint, ProtocolVersion::RESP2, false).await
        }
        done => done,
    }
}

async fn shake_hands(
    endpoint: &Endpoint,
    protocol: ProtocolVersion,
    with_password: bool,
) -> Result<Opened, Error> {
    let greeting = Greeting::default();
    let stream = Heard::new(reach(endpoint).await?, greeting.clone());
    let mut login = RedisConnectionInfo::default()
        .set_protocol(protocol)
        .set_lib_name("redis-reservation", env!("CARGO_PKG_VERSION"));
    if let Some(password) = endpoint.password.reveal().filter(|_| with_password) {
        login = login.set_password(password);
    }
    // Limits are set per command, by whoever sends it: the crate's own would cut every command at 500 ms.
    let mut config = AsyncConnectionConfig::new()
        .set_response_timeout(None)
        .set_connection_timeout(None)
        .set_pipeline_buffer_size(HAND_IN_ROOM);
    let mut pushes = Err("the server speaks RESP2 only".to_owned());
    if protocol.supports_resp3() {
        let (sender, receiver) = unbounded_channel();
        config = config.set_push_sender(sender);
        pushes = Ok(receiver);
    }
    let (connection, driver) = MultiplexedConnection::new_with_config(&login, stream, config)
        .await
        .map_err(|error| handshake_error(endpoint, &greeting, &error))?;
    let mut driver: Pin<Box<dyn Future<Output = ()>>> = Box::pin(driver);

    let (information, tracking) = tokio::select! {
        result = prepare(&connection) => result.map_err(|error| handshake_error(endpoint, &greeting, &error))?,
        () = &mut driver => return Err(broken_off(endpoint, &greeting, "the server closed the connection")),
    };
    if let Value::ServerError(error) = tracking {
        pushes = Err(words_of(&error));
    }
    if let Value::ServerError(error) = &information {
        match Error::from_reply(&endpoint.to_string(), "CLIENT INFO", "", error) {
            // A server that does not know CLIENT INFO, or forbids it, is no worse a lock server for it.
            Error::Denied { text, .. } if text.starts_with("NOPERM") => {}
            Error::Reply { class: Class::Final, .. } => {}
            error => return Err(error),
        }
    }
    let identity = Identity::from_reply(&information);
    Ok(Opened { connection, driver, identity, pushes })
}

/// Asks what we are known by, to be told of keys that change, and makes the scripts known: one round trip. OPTIN, so that
/// only the keys that are read for it are watched; and never NOLOOP, under which our own write ends a watch unseen. A
/// refused SCRIPT LOAD is no matter: the first use of a script that the server does not know sends its source.
async fn prepare(connection: &MultiplexedConnection) -> Result<(Value, Value), RedisError> {
    let mut pipeline = Pipeline::with_capacity(5);
    pipeline.cmd("CLIENT").arg("INFO");
    pipeline.cmd("CLIENT").arg("TRACKING").arg("ON").arg("OPTIN");
    for script in [&command::EXTEND, &command::RELEASE, &command::HAND_OVER] {
        pipeline.add_command(script.load());
    }
    let count = pipeline.len();
    let mut replies = connection.clone().send_packed_commands(&pipeline, 0, count).await?.into_iter();
    Ok((replies.next().unwrap_or(Value::Nil), replies.next().unwrap_or(Value::Nil)))
}

/// A TCP connection to the first address of the host that accepts one.
async fn reach(endpoint: &Endpoint) -> Result<TcpStream, Error> {
    let unreachable = |detail: String, error: &io::Error| Error::Connection {
        endpoint: endpoint.to_string(),
        detail,
        reason: name_of(error),
    };
    let addresses = resolve(&endpoint.host, endpoint.port).await.map_err(|error| Error::Connection {
        endpoint: endpoint.to_string(),
        detail: format!("getaddrinfo ENOTFOUND {} ({error})", endpoint.host),
        reason: "ENOTFOUND",
    })?;
    let mut last = None;
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                tune(&stream)
                    .map_err(|error| unreachable(format!("socket options of {address}: {error}"), &error))?;
                return Ok(stream);
            }
            Err(error) => last = Some((address, error)),
        }
    }
    Err(match last {
        Some((address, error)) => unreachable(format!("connect {} {address}", name_of(&error)), &error),
        None => Error::Connection {
            endpoint: endpoint.to_string(),
            detail: format!("getaddrinfo ENOTFOUND {}", endpoint.host),
            reason: "ENOTFOUND",
        },
    })
}

async fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    Ok(tokio::net::lookup_host((host, port)).await?.collect())
}

/// No Nagle delay for small commands; and a peer that has vanished without a word is noticed by the kernel in less
/// than half a minute even where no command of ours is under way.
fn tune(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let keepalive =
        socket2::TcpKeepalive::new().with_time(Duration::from_secs(10)).with_interval(Duration::from_secs(5));
    socket2::SockRef::from(stream).set_tcp_keepalive(&keepalive)
}

fn handshake_error(endpoint: &Endpoint, greeting: &Greeting, error: &RedisError) -> Error {
    if error.is_io_error() || matches!(error.kind(), redis::ErrorKind::Parse) {
        return broken_off(endpoint, greeting, &error.to_string());
    }
    refused(
        endpoint,
        match (error.code(), error.detail()) {
            (Some(code), Some(detail)) if !detail.starts_with(code) => format!("{code} {detail}"),
            (_, Some(detail)) => detail.to_owned(),
            (Some(code), None) => code.to_owned(),
            (None, None) => error.to_string(),
        },
    )
}

/// The connection broke during the handshake. If the server said why, that is the reason.
fn broken_off(endpoint: &Endpoint, greeting: &Greeting, how: &str) -> Error {
    match greeting.refusal() {
        Some(text) => refused(endpoint, text),
        None => Error::Connection {
            endpoint: endpoint.to_string(),
            detail: format!("handshake: {how}"),
            reason: "ECONNRESET",
        },
    }
}

fn refused(endpoint: &Endpoint, text: String) -> Error {
    match class_of(&text) {
        Class::Denied => Error::Denied { endpoint: endpoint.to_string(), text },
        class => {
            Error::Reply { endpoint: endpoint.to_string(), command: "HELLO", key: String::new(), text, class }
        }
    }
}

/// The system's name of an error, as Node would print it.
fn name_of(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "ECONNREFUSED",
        io::ErrorKind::ConnectionReset => "ECONNRESET",
        io::ErrorKind::ConnectionAborted => "ECONNABORTED",
        io::ErrorKind::TimedOut => "ETIMEDOUT",
        io::ErrorKind::HostUnreachable => "EHOSTUNREACH",
        io::ErrorKind::NetworkUnreachable => "ENETUNREACH",
        io::ErrorKind::AddrNotAvailable => "EADDRNOTAVAIL",
        io::ErrorKind::PermissionDenied => "EACCES",
        io::ErrorKind::BrokenPipe => "EPIPE",
        _ => "EIO",
    }
}
