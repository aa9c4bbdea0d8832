//! `redis-reservation`: locks in redis that expire, renew themselves, and can be released only by their owner.
//!
//! One OS thread per process, the core, owns every lock. So a busy JavaScript thread loses none.
//!
//! The rooms, from the top down. Each uses those below it and none above (`__test__/arrows.test.js`):
//!
//! - `addon`: what Node sees, and the only room that knows napi.
//! - [`dispatcher`]: the one thread; hands each request to the operation that serves it.
//! - [`lock`]: what is done with a lock: acquire, wait, renew, release, undo.
//! - [`connection`]: how commands get to redis: supervisor, pipeline, handshake, dial; sentinels and clusters.
//! - [`protocol`]: the commands and scripts, and what their replies mean.
//! - [`model`]: values that more than one thread sees: reservation, lease, endpoint, error, answer.
//! - [`runtime`]: tasks that outlive a panic, fail points of tests.
//! - [`time`]: the clock, backoff, budgets.
//!
//! Outside of the house, and in test builds only: `simulation`, the world that it can be run in, and `tests`.

#[macro_use]
pub mod runtime;

pub mod addon;
pub mod connection;
pub mod dispatcher;
pub mod lock;
pub mod model;
pub mod protocol;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
pub mod time;

/// With the system's allocator, half the cost of a hundred thousand renewals a second went to allocation and to cache
/// misses on scattered memory (docs/performance.md).
#[cfg(not(feature = "count-allocations"))]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[cfg(feature = "count-allocations")]
#[global_allocator]
static ALLOCATOR: addon::counting_allocator::CountingAllocator = addon::counting_allocator::CountingAllocator;
