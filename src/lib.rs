//! `redis-reservation`: locks in redis that expire, renew themselves, and belong to whoever took them.
//!
//! One OS thread per process owns every lock (`core`), so that a JavaScript thread that is busy loses nothing. From
//! the top down; each part knows those below it and none above:
//!
//! - [`reserve_resource`]: the class that JavaScript sees.
//! - [`bridge`], [`environment`] with its [`handles`], [`javascript`]: carry calls to the core and answers back, in batches
//!   through a [`mailbox`]. With the class above, the only parts that know Node.
//! - [`core`]: the thread; hands each request to the part that serves it.
//! - [`waiting`], [`release`] and [`releases`], [`heartbeat`], [`acquire`] with [`replication`]: what is done with a lock.
//! - [`loss`], [`settlement`]: the end of what is lost, and what a lost reply left open.
//! - [`client`]: the state of one endpoint, made of [`held`], [`queue`], [`schedule`] and [`link`].
//! - [`link`], [`live`] with its [`outbox`], [`reply`] and [`wire`]: a connection that heals, one that is up, where its
//!   commands go.
//! - [`opening`] by way of [`sentinel`], or [`cluster`] with its [`breaker`] and [`node`], or neither, [`connection`] with
//!   its [`greeting`], [`reach`]: how one is made.
//! - [`outlet`], [`holding`], [`claim`], [`settings`]: what both threads see.
//! - [`command`], [`lease`], [`limit`], [`backoff`], [`endpoint`], [`tls`], [`clock`], [`error`], [`advice`]: values and
//!   arithmetic.

pub mod acquire;
pub mod advice;
pub mod backoff;
pub mod breaker;
mod bridge;
pub mod claim;
pub mod client;
pub mod clock;
pub mod cluster;
pub mod command;
pub mod connection;
pub mod core;
pub mod endpoint;
mod environment;
pub mod error;
pub mod greeting;
mod handles;
pub mod heartbeat;
pub mod held;
pub mod holding;
mod javascript;
pub mod lease;
pub mod limit;
pub mod link;
pub mod live;
pub mod loss;
pub mod mailbox;
pub mod node;
pub mod opening;
pub mod outbox;
pub mod outlet;
pub mod queue;
pub mod reach;
pub mod release;
pub mod releases;
pub mod replication;
pub mod reply;
mod reserve_resource;
pub mod schedule;
pub mod sentinel;
pub mod settings;
pub mod settlement;
#[cfg(test)]
mod tests;
pub mod tls;
pub mod waiting;
pub mod wire;

/// Half of what a hundred thousand renewals a second cost went to the system's allocator, and to memory that it had
/// scattered (docs/architecture.md).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
