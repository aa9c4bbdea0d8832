//! Tests of the core against a real redis-server, without Node. They submit what the addon would, and read the answers
//! and events that it would get.

mod breaker;
mod leases;
mod locks;
mod losses;
#[cfg(model)]
mod model;
mod panics;
mod simulated_redis;
mod simulation;
pub mod support;
mod trouble;
mod waits;
