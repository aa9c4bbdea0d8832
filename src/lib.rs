//! `redis-reservation`: locks in redis that expire, renew themselves, and belong to whoever took them.
//!
//! One OS thread per process owns every lock (`core`), so that a JavaScript thread that is busy loses nothing. From
//! the top down; each part knows those below it and none above:
//!
//! - [`reserve_resource`]: the class that JavaScript sees.
//! - [`bridge`], [`environment`] with its [`handles`], [`javascript`]: carry calls to the core and answers back, in batches
//!   through a [`mailbox`]. With the class above, the only parts that know Node.
//! - [`core`]: the thread; hands each [`request`] to the part that serves it.
//! - [`waiting`], [`release`] and [`releases`], [`heartbeat`], [`acquire`] with [`replication`]: what is done with a lock,
//!   by [`attempts`].
//! - [`loss`], [`undo`], [`sent`]: the end of what is lost, and what a lost reply left open.
//! - [`client`]: the state of one endpoint, made of [`held`], [`queue`], [`schedule`] and [`link`].
//! - [`link`], [`live`] with its [`outbox`], [`reply`] and [`wire`]: a connection that heals, one that is up, where its
//!   commands go.
//! - [`opening`] by way of [`sentinel`], or [`cluster`] with its [`breaker`] and [`node`], or neither, [`connection`] with
//!   its [`greeting`], [`reach`] with [`resolve`] and [`encrypt`]: how one is made.
//! - [`outlet`], [`holding`], [`claim`], [`settings`]: what both threads see.
//! - [`command`], [`lease`], [`limit`], [`backoff`], [`endpoint`], [`tls`], [`clock`], [`error`], [`advice`],
//!   [`quote`], [`system_error`]: values and arithmetic.
//! - [`guard`]: tasks that outlive a panic. [`fail_point`]: how tests make one. `counted`: the allocator of test builds.

#[macro_use]
pub mod fail_point;

pub mod acquire;
pub mod advice;
pub mod attempts;
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
#[cfg(feature = "count-allocations")]
mod counted;
pub mod encrypt;
pub mod endpoint;
mod environment;
pub mod error;
pub mod greeting;
pub mod guard;
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
pub mod quote;
pub mod reach;
pub mod release;
pub mod releases;
pub mod replication;
pub mod reply;
pub mod request;
mod reserve_resource;
pub mod resolve;
pub mod schedule;
pub mod sent;
pub mod sentinel;
pub mod settings;
pub mod system_error;
#[cfg(test)]
mod tests;
pub mod tls;
pub mod undo;
pub mod waiting;
pub mod wire;

/// Half of what a hundred thousand renewals a second cost went to the system's allocator, and to memory that it had
/// scattered (docs/architecture.md).
#[cfg(not(feature = "count-allocations"))]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[cfg(feature = "count-allocations")]
#[global_allocator]
static ALLOCATOR: counted::Counted = counted::Counted;
