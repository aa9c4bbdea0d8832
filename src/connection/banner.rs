//! Keeps the first bytes that a server sends, so that an error can quote a server that answers otherwise than redis
//! does.
//!
//! Redis that is full writes `-ERR max number of clients reached` and closes. The commands of the handshake then fail
//! with the broken connection, and the crate does not report that line. A server that is no redis is best described by
//! its own words. But it may echo ours, and the password in them.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::model::quote::quoted;

/// The most bytes that are kept. The longest refusal is shorter.
const MAX_KEPT: usize = 256;

/// What kind of server has answered, by its first bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerKind {
    /// Nothing was received.
    Nothing,
    /// Redis may begin so.
    Redis,
    /// A TLS record.
    Tls,
    /// The commands that were sent to it.
    Echo,
    /// Something else. Its first line, if that can be shown.
    Foreign(Option<String>),
}

#[derive(Default)]
struct FirstBytes {
    bytes: Mutex<Vec<u8>>,
    is_over: AtomicBool,
}

/// The first bytes that were read. Clones share them with the handshake.
#[derive(Clone, Default)]
pub struct Banner(Arc<FirstBytes>);

impl Banner {
    /// The server's first line without its `-`, if it is a refusal.
    #[must_use]
    pub fn refusal(&self) -> Option<String> {
        let bytes = self.bytes();
        let line = bytes.strip_prefix(b"-")?.split(|&byte| byte == b'\r').next()?;
        Some(String::from_utf8_lossy(line).into_owned())
    }

    /// What kind of server has answered the handshake. A line that may hold the secret is not shown.
    #[must_use]
    pub fn peer_kind(&self, secret: Option<&str>) -> PeerKind {
        let bytes = self.bytes();
        match *bytes.as_slice() {
            [] => PeerKind::Nothing,
            [20..=23, 3, ..] => PeerKind::Tls,
            [b'*', ..] if is_echo(&bytes) => PeerKind::Echo,
            [b'%' | b'>' | b'|' | b'-' | b'*', ..] => PeerKind::Redis,
            [b'+', ref rest @ ..] if rest.starts_with(b"OK\r") || b"OK\r".starts_with(rest) => {
                PeerKind::Redis
            }
            _ => PeerKind::Foreign(quoted(&bytes, secret)),
        }
    }

    /// The first line of a server that answers a TLS handshake without TLS. Nothing secret was sent by then.
    #[must_use]
    pub fn words_without_tls(&self) -> Option<String> {
        let bytes = self.bytes();
        if matches!(bytes.first(), Some(20..=23)) { None } else { quoted(&bytes, None) }
    }

    /// The handshake is over: what follows is neither kept nor limited.
    pub fn end(&self) {
        self.0.is_over.store(true, Ordering::Relaxed);
    }

    fn keep(&self, read: &[u8]) {
        let mut bytes = self.bytes();
        let room = MAX_KEPT.saturating_sub(bytes.len());
        bytes.extend_from_slice(&read[..read.len().min(room)]);
    }

    fn bytes(&self) -> std::sync::MutexGuard<'_, Vec<u8>> {
        self.0.bytes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// True for an array that begins with a command of the handshake.
fn is_echo(bytes: &[u8]) -> bool {
    let word = bytes.split(|&byte| byte == b'\n').nth(2).unwrap_or_default();
    let word = String::from_utf8_lossy(word).trim_end().to_ascii_uppercase();
    matches!(word.as_str(), "HELLO" | "AUTH" | "SELECT" | "CLIENT")
}

/// A stream whose first bytes are kept.
pub struct Recorded<Stream> {
    stream: Stream,
    banner: Banner,
    /// How many more bytes may come before the handshake is over.
    limit: usize,
}

impl<Stream> Recorded<Stream> {
    /// Keeps the first bytes of `stream` in `banner`. More than `limit` bytes before [`Banner::end`] are an error.
    #[must_use]
    pub fn new(stream: Stream, banner: Banner, limit: usize) -> Self {
        Self { stream, banner, limit }
    }
}

impl<Stream: AsyncRead + Unpin> AsyncRead for Recorded<Stream> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let result = Pin::new(&mut self.stream).poll_read(context, buffer);
        if !self.banner.0.is_over.load(Ordering::Relaxed) {
            let read = &buffer.filled()[before..];
            self.banner.keep(read);
            match self.limit.checked_sub(read.len()) {
                Some(limit) => self.limit = limit,
                None => return Poll::Ready(Err(io::Error::other("its answer does not end"))),
            }
        }
        result
    }
}

impl<Stream: AsyncWrite + Unpin> AsyncWrite for Recorded<Stream> {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn peer_kind(bytes: &[u8], secret: Option<&str>) -> PeerKind {
        let banner = Banner::default();
        banner.keep(bytes);
        banner.peer_kind(secret)
    }

    fn foreign(text: &str) -> PeerKind {
        PeerKind::Foreign(Some(text.to_owned()))
    }

    #[test]
    fn a_server_is_recognised_by_its_first_bytes() {
        for (bytes, expected) in [
            (&b""[..], PeerKind::Nothing),
            (b"%7\r\n", PeerKind::Redis),
            (b"-ERR unknown command", PeerKind::Redis),
            (b"*14\r\n$6\r\nserver\r\n", PeerKind::Redis),
            (b">3\r\n", PeerKind::Redis),
            (b"+", PeerKind::Redis),
            (b"+OK\r\n", PeerKind::Redis),
            (b"\x15\x03\x01\x00\x02\x02\x46", PeerKind::Tls),
            (b"*5\r\n$5\r\nHELLO\r\n$1\r\n3\r\n", PeerKind::Echo),
            (b"*3\r\n$4\r\nauth\r\n", PeerKind::Echo),
            (b"HTTP/1.1 400 Bad Request\r\nServer: x\r\n", foreign("HTTP/1.1 400 Bad Request…")),
            (b"ERROR\r\n", foreign("ERROR…")),
            (b"+OK POP3 ready\r\n", foreign("+OK POP3 ready")),
            (b":1\r\n", foreign(":1")),
            (b"\r\n\n220 ready", foreign("220 ready")),
            (b"J\x00\x00\x00\x0a8.0.36", foreign("J...")),
            (b"\x00\x01\xff", PeerKind::Foreign(None)),
        ] {
            let seen = peer_kind(bytes, None);
            let expected = match expected {
                // The `…` is for the line, not for what follows it.
                PeerKind::Foreign(Some(text)) => foreign(text.trim_end_matches('…')),
                other => other,
            };
            assert_eq!(seen, expected, "{bytes:?}");
        }
        let long = [b'a'; 300];
        assert_eq!(peer_kind(&long, None), foreign(&format!("{}…", "a".repeat(80))));
    }
}
