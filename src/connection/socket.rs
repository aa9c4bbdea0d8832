//! One TCP connection to one address, with the options that we want of it. In test builds the simulation can take its
//! place.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use redis::io::tcp::socket2;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

#[cfg(test)]
pub use simulated::{Socket, connect, simulate};

/// A byte stream to a server: TCP, a unix socket, or TLS.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<Carrier: AsyncRead + AsyncWrite + Send + Unpin> Stream for Carrier {}

/// A connected socket.
#[cfg(not(test))]
pub type Socket = TcpStream;

/// Connects to an address.
///
/// # Errors
/// The system's.
#[cfg(not(test))]
pub fn connect(address: SocketAddr) -> impl Future<Output = io::Result<Socket>> + Send {
    connect_by_system(address)
}

async fn connect_by_system(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    tune(&stream)?;
    Ok(stream)
}

/// No Nagle delay for small commands. Keepalive probes, so that the kernel notices a peer that has vanished in less
/// than half a minute, even if no command is in flight.
fn tune(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let keepalive =
        socket2::TcpKeepalive::new().with_time(Duration::from_secs(10)).with_interval(Duration::from_secs(5));
    socket2::SockRef::from(stream).set_tcp_keepalive(&keepalive)
}

#[cfg(test)]
mod simulated {
    use std::cell::Cell;
    use std::pin::Pin;

    use super::{SocketAddr, Stream, connect_by_system, io};

    /// A connected socket.
    pub type Socket = Box<dyn Stream>;
    /// An attempt to connect.
    pub type Connecting = Pin<Box<dyn Future<Output = io::Result<Socket>> + Send>>;

    type Network = fn(SocketAddr) -> Connecting;

    thread_local! {
        static NETWORK: Cell<Option<Network>> = const { Cell::new(None) };
    }

    /// What this thread connects to from now on; `None` is the system's network.
    pub fn simulate(network: Option<Network>) {
        NETWORK.set(network);
    }

    /// Connects to an address.
    #[must_use]
    pub fn connect(address: SocketAddr) -> Connecting {
        match NETWORK.get() {
            Some(network) => network(address),
            None => Box::pin(async move { Ok(Box::new(connect_by_system(address).await?) as Socket) }),
        }
    }
}
