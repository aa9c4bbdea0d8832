//! Connections to redis: how commands get there, and replies back.
//!
//! - [`supervisor`]: keeps an endpoint connected for as long as somebody needs it.
//! - [`pipeline`], with its [`send_queue`] and each [`reply`]: one connection that is up. The commands of one turn
//!   leave in one write.
//! - [`transport`]: where a batch meets the redis crate.
//! - [`open`]: a new connection to an endpoint, by way of a [`sentinel`], to a [`cluster`], or straight to one server.
//! - [`handshake`], with the server's [`banner`]: log in to one server.
//! - [`dial`], [`resolve`], [`socket`], [`tls_stream`], [`tls_config`]: get through to it.

pub mod banner;
pub mod cluster;
pub mod dial;
pub mod handshake;
pub mod open;
pub mod pipeline;
pub mod reply;
pub mod resolve;
pub mod send_queue;
pub mod sentinel;
pub mod socket;
pub mod supervisor;
pub mod tls_config;
pub mod tls_stream;
pub mod transport;
