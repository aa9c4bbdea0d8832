//! The core against a real redis-server, without Node: what the addon would ask, and what it would be told.

mod breaker;
mod locks;
mod losses;
mod panics;
mod simulated_redis;
pub mod support;
mod trouble;
mod waits;
