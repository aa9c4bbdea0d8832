//! The client's end of a simulated connection: what the core reads and writes in place of a socket.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::network::{ConnectionId, State};
use super::{process, world};
use crate::connection::socket::Socket;

/// Connects as the process that runs.
pub fn connect(address: SocketAddr) -> Pin<Box<dyn Future<Output = io::Result<Socket>> + Send>> {
    let id = world::with(|world| world.begin_connect(process::current(), address));
    Box::pin(Connecting(Some(id)))
}

struct Connecting(Option<ConnectionId>);

impl Future for Connecting {
    type Output = io::Result<Socket>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(id) = self.0 else { return Poll::Pending };
        let result = world::try_with(|world| {
            let connection = world.connections.get_mut(&id)?;
            match connection.state {
                State::Connecting => {
                    connection.reader = Some(context.waker().clone());
                    None
                }
                State::Open => Some(Ok(())),
                State::Ended(kind) => Some(Err(kind.into())),
            }
        });
        match result.flatten() {
            None => Poll::Pending,
            Some(Ok(())) => {
                self.0 = None;
                Poll::Ready(Ok(Box::new(Stream(id))))
            }
            Some(Err(error)) => Poll::Ready(Err(error)),
        }
    }
}

impl Drop for Connecting {
    fn drop(&mut self) {
        if let Some(id) = self.0 {
            world::try_with(|world| world.close(id));
        }
    }
}

/// The client's end of a connection.
struct Stream(ConnectionId);

impl Drop for Stream {
    fn drop(&mut self) {
        world::try_with(|world| world.close(self.0));
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = world::try_with(|world| {
            let connection = world.connections.get_mut(&self.0)?;
            let count = connection.received.len().min(buffer.remaining());
            if count > 0 {
                let (first, second) = connection.received.as_slices();
                let head = count.min(first.len());
                buffer.put_slice(&first[..head]);
                buffer.put_slice(&second[..count - head]);
                connection.received.drain(..count);
                return Some(Ok(()));
            }
            match connection.state {
                State::Ended(io::ErrorKind::UnexpectedEof) => Some(Ok(())),
                State::Ended(kind) => Some(Err(kind.into())),
                _ => {
                    connection.reader = Some(context.waker().clone());
                    None
                }
            }
        });
        read.flatten().map_or(Poll::Pending, Poll::Ready)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = world::try_with(|world| world.write(self.0, bytes));
        Poll::Ready(written.unwrap_or(Err(io::ErrorKind::BrokenPipe.into())))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
