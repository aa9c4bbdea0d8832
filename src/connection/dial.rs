//! Connects to a server: by name, by whichever of its addresses accepts first, over TLS where that is asked for. What is
//! said on the connection is the business of handshake.rs.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use crate::connection::resolve::{Unresolved, resolve};
use crate::connection::socket::{self, Socket, Stream};
use crate::connection::tls_stream::encrypt;
use crate::model::endpoint::{Endpoint, Host};
use crate::model::error::Error;
use crate::model::system_error::{in_words, name_of};

/// How long an address has before the next one is tried as well: the Connection Attempt Delay of RFC 8305.
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// The most addresses in one message.
const MAX_ADDRESSES_TOLD: usize = 4;

/// Connects to a host: to whichever of its addresses accepts first. Over TLS if `endpoint` says so.
///
/// # Errors
/// [`Error::Connection`], also if there is no connection by the `deadline`.
pub async fn reach_host(
    endpoint: &Arc<Endpoint>,
    host: &Host,
    deadline: Instant,
) -> Result<Box<dyn Stream>, Error> {
    let stream = connect(endpoint, host, deadline).await?;
    match &endpoint.tls {
        None => Ok(Box::new(stream)),
        Some(tls) => encrypt(endpoint, host, tls, stream, deadline).await,
    }
}

/// Connects to a unix socket.
///
/// # Errors
/// [`Error::Connection`].
#[cfg(unix)]
pub async fn reach_socket(endpoint: &Arc<Endpoint>, path: &str) -> Result<Box<dyn Stream>, Error> {
    let error = match tokio::net::UnixStream::connect(path).await {
        Ok(stream) => return Ok(Box::new(stream)),
        Err(error) => error,
    };
    let (name, words) = match name_of(&error) {
        // The path is too long for the system call.
        "EIO" if error.kind() == io::ErrorKind::InvalidInput => (
            "ENAMETOOLONG",
            format!(
                ": it has {} bytes, and the system takes about 100; give the socket a shorter path",
                path.len()
            ),
        ),
        "EAGAIN" => (
            "EAGAIN",
            ": nobody accepts what waits there; is redis stopped, or its tcp-backlog too short?".to_owned(),
        ),
        "EACCES" => ("EACCES", ": this user may not write to it; set redis's unixsocketperm".to_owned()),
        name => (name, in_words(&error)),
    };
    Err(unreachable(endpoint, format!("connect {name} {path}{words}"), name))
}

/// Fails: this system has no unix sockets.
///
/// # Errors
/// Always.
#[cfg(not(unix))]
pub async fn reach_socket(endpoint: &Arc<Endpoint>, path: &str) -> Result<Box<dyn Stream>, Error> {
    Err(unreachable(
        endpoint,
        format!("{path}: this system has no unix sockets, give a host and a port"),
        "ENOTSUP",
    ))
}

async fn connect(endpoint: &Arc<Endpoint>, host: &Host, deadline: Instant) -> Result<Socket, Error> {
    let addresses = resolve(host, deadline)
        .await
        .map_err(|Unresolved { detail, reason }| unreachable(endpoint, detail, reason))?;
    let (_, socket) = first_to_accept(&addresses, deadline)
        .await
        .map_err(|failures| why_nobody_accepts(endpoint, host, &failures))?;
    Ok(socket)
}

/// An address that did not accept, and why.
type Refusal = (SocketAddr, io::Error);

/// Connects to whichever address accepts first. As in [RFC 8305](https://www.rfc-editor.org/rfc/rfc8305), the next one
/// is tried when all before it have failed, or after a short pause. So an address that drops packets does not use up
/// the time of the others.
async fn first_to_accept(
    addresses: &[SocketAddr],
    deadline: Instant,
) -> Result<(SocketAddr, Socket), Vec<Refusal>> {
    // So short that all have been tried after half of the time.
    let count = u32::try_from(addresses.len()).unwrap_or(u32::MAX).max(1);
    let pause = ATTEMPT_DELAY.min((deadline - Instant::now()) / count.saturating_mul(2));
    let mut untried = addresses.iter().copied();
    let mut in_flight = JoinSet::new();
    let mut silent = addresses.to_vec();
    let mut refusals = Vec::new();
    loop {
        if let Some(address) = untried.next() {
            let connecting = socket::connect(address);
            in_flight.spawn(async move { (address, connecting.await) });
        } else if in_flight.is_empty() {
            return Err(refusals);
        }
        let next = if untried.len() > 0 { deadline.min(Instant::now() + pause) } else { deadline };
        match timeout_at(next, in_flight.join_next()).await {
            Ok(Some(Ok((address, Ok(stream))))) => return Ok((address, stream)),
            Ok(Some(Ok((address, Err(error))))) => {
                silent.retain(|other| *other != address);
                refusals.push((address, error));
            }
            Ok(_) => {}
            Err(_) if Instant::now() < deadline => {}
            Err(_) => {
                let late = silent.into_iter().map(|address| (address, io::ErrorKind::TimedOut.into()));
                return Err(refusals.into_iter().chain(late).collect());
            }
        }
    }
}

/// The error that lists all addresses, in Node's words. Its code is that of the last one.
fn why_nobody_accepts(endpoint: &Arc<Endpoint>, host: &Host, refusals: &[Refusal]) -> Error {
    let Some((_, last)) = refusals.last() else {
        return unreachable(endpoint, format!("getaddrinfo ENOTFOUND {}", host.name), "ENOTFOUND");
    };
    let told = refusals.iter().rev().take(MAX_ADDRESSES_TOLD);
    let told =
        told.map(|(address, error)| format!("connect {} {address}", name_of(error))).collect::<Vec<_>>();
    let others = match refusals.len().saturating_sub(MAX_ADDRESSES_TOLD) {
        0 => String::new(),
        others => format!(", and {others} more"),
    };
    unreachable(endpoint, format!("{}{others}{}", told.join(", "), in_words(last)), name_of(last))
}

/// The error that there is no connection, and why.
#[must_use]
pub fn unreachable(endpoint: &Arc<Endpoint>, detail: String, reason: &'static str) -> Error {
    Error::Connection { endpoint: Arc::clone(endpoint), detail, reason }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use redis::io::tcp::socket2;
    use tokio::net::{TcpListener, TcpStream};
    use tokio::time::timeout;

    use super::*;

    /// An address that nobody answers at: the queue of its listener is full, so the system drops packets. It stays so
    /// for as long as the returned values live.
    async fn black_hole() -> (SocketAddr, socket2::Socket, Vec<TcpStream>) {
        let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap().as_socket().unwrap();
        let mut queued = Vec::new();
        while let Ok(stream) = timeout(Duration::from_millis(200), TcpStream::connect(address)).await {
            queued.push(stream.unwrap());
        }
        (address, listener, queued)
    }

    async fn listening() -> (SocketAddr, TcpListener) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        (listener.local_addr().unwrap(), listener)
    }

    async fn refusing() -> SocketAddr {
        listening().await.0
    }

    fn within(milliseconds: u64) -> Instant {
        Instant::now() + Duration::from_millis(milliseconds)
    }

    #[tokio::test]
    async fn silent_addresses_do_not_use_up_the_time_of_the_next_one() {
        let (hole, _listener, _queued) = black_hole().await;
        let (good, _accepting) = listening().await;
        for (addresses, milliseconds) in
            [(vec![hole, good], 30_000), (vec![hole, good], 200), (vec![hole, hole, hole, hole, good], 1000)]
        {
            let (address, _) = first_to_accept(&addresses, within(milliseconds)).await.unwrap();
            assert_eq!(address, good, "{addresses:?} within {milliseconds} ms");
        }
    }

    #[tokio::test]
    async fn an_address_that_is_slow_to_accept_is_waited_for_while_others_are_tried() {
        let (slow, listener, queued) = black_hole().await;
        let refusing = refusing().await;
        let accepting = tokio::task::spawn_blocking(move || {
            // The system retries after a second.
            std::thread::sleep(Duration::from_millis(500));
            let accepted: Vec<_> = queued.iter().map(|_| listener.accept().unwrap()).collect();
            (listener, accepted)
        });
        let (address, _) = first_to_accept(&[slow, refusing], within(30_000)).await.unwrap();
        assert_eq!(address, slow);
        drop(accepting.await);
    }

    #[tokio::test]
    async fn if_no_address_accepts_each_is_named_with_its_reason() {
        let (hole, _listener, _queued) = black_hole().await;
        let refusing = refusing().await;
        let began = Instant::now();
        let refusals = first_to_accept(&[hole, refusing], within(300)).await.err().unwrap();
        assert!(began.elapsed() >= Duration::from_millis(290));
        let told: Vec<_> = refusals.iter().map(|(address, error)| (*address, name_of(error))).collect();
        assert_eq!(told, [(refusing, "ECONNREFUSED"), (hole, "ETIMEDOUT")]);
        // An address that has refused is not waited for.
        let refusals = first_to_accept(&[refusing, refusing], within(60_000)).await.err().unwrap();
        assert_eq!(refusals.len(), 2);
        assert!(first_to_accept(&[], within(60_000)).await.err().unwrap().is_empty());
    }

    #[test]
    fn many_addresses_make_no_long_message() {
        let host = Host { name: "many.example.com".into(), port: 6379 };
        let endpoint = Arc::new(Endpoint {
            place: crate::model::endpoint::Place::Server(host.clone()),
            login: crate::model::endpoint::Login::default(),
            tls: None,
            waits_for_replicas: None,
        });
        let refusals = |count: u8| -> Vec<Refusal> {
            let address = |last| SocketAddr::new(IpAddr::from([10, 0, 0, last]), 6379);
            (1..=count).map(|last| (address(last), io::ErrorKind::ConnectionRefused.into())).collect()
        };
        for (count, expected) in [
            (1, "connect ECONNREFUSED 10.0.0.1:6379"),
            (2, "connect ECONNREFUSED 10.0.0.2:6379, connect ECONNREFUSED 10.0.0.1:6379"),
            (
                20,
                "connect ECONNREFUSED 10.0.0.20:6379, connect ECONNREFUSED 10.0.0.19:6379, connect ECONNREFUSED \
                 10.0.0.18:6379, connect ECONNREFUSED 10.0.0.17:6379, and 16 more",
            ),
            (0, "getaddrinfo ENOTFOUND many.example.com"),
        ] {
            let Error::Connection { detail, .. } = why_nobody_accepts(&endpoint, &host, &refusals(count))
            else {
                panic!("it is an error of the connection")
            };
            assert_eq!(detail, expected);
        }
    }
}
