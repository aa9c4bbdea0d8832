//! Keeps the first bytes that a server sends, so that a server which refuses and hangs up is quoted.
//!
//! Redis that has no room for a client writes `-ERR max number of clients reached` and closes. The commands of the
//! handshake are then answered by the broken connection, and the crate has nothing to say of the line.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// More than the longest refusal, less than what would matter.
const MOST_BYTES: usize = 256;

/// The first bytes that were read, shared with whoever shakes hands.
#[derive(Clone, Default)]
pub struct Greeting {
    bytes: Arc<Mutex<Vec<u8>>>,
}

impl Greeting {
    /// The server's first line, if it is a refusal: without its `-`.
    #[must_use]
    pub fn refusal(&self) -> Option<String> {
        let bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        let line = bytes.strip_prefix(b"-")?.split(|&byte| byte == b'\r').next()?;
        Some(String::from_utf8_lossy(line).into_owned())
    }

    fn keep(&self, read: &[u8]) {
        let mut bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        let room = MOST_BYTES.saturating_sub(bytes.len());
        bytes.extend_from_slice(&read[..read.len().min(room)]);
    }
}

/// A stream whose first bytes are kept.
pub struct Heard<Stream> {
    stream: Stream,
    greeting: Greeting,
    /// How many bytes are still to be kept. Afterwards reading costs nothing more.
    missing: usize,
}

impl<Stream> Heard<Stream> {
    /// Keeps the first bytes of `stream` in `greeting`.
    #[must_use]
    pub fn new(stream: Stream, greeting: Greeting) -> Self {
        Self { stream, greeting, missing: MOST_BYTES }
    }
}

impl<Stream: AsyncRead + Unpin> AsyncRead for Heard<Stream> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let result = Pin::new(&mut self.stream).poll_read(context, buffer);
        if self.missing > 0 {
            let read = &buffer.filled()[before..];
            self.greeting.keep(read);
            self.missing = self.missing.saturating_sub(read.len());
        }
        result
    }
}

impl<Stream: AsyncWrite + Unpin> AsyncWrite for Heard<Stream> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
