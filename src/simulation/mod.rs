//! The world that the core can be run in, in test builds only: nothing of it is in the shipped binary. The core is the
//! real one, as many times as there are processes. Its time, network, servers, random numbers and callers are simulated,
//! so one seed is one history.
//!
//! - [`story`], [`generate`], [`kinds`]: what is to happen, from a seed
//! - [`begin`], [`run`]: makes what a story has, and lives through it
//! - [`world`]: what is outside of the cores, and when it occurs
//! - [`process`]: a core on its own clock
//! - [`caller`], [`letters`]: an environment with its event loop, what its program asks and what it reads
//! - [`names`], [`dialing`], [`network`], [`stream`]: addresses and connections, and what can go wrong with them
//! - [`trouble`]: what a story lets go wrong
//! - [`node`], [`replicas`], [`cluster`], [`server`]: redis
//! - [`chance`]: random numbers of others
//! - [`invariants`], [`leftovers`], [`quiet`], [`reports`], [`with_replicas`]: what must be true at every moment
//! - [`shrink`]: makes a story that offends short

#![allow(clippy::unwrap_used, reason = "test code: what cannot be is to stop the test")]
#![allow(dead_code, reason = "the simulated servers can do more than the stories ask of them")]

pub mod begin;
pub mod caller;
pub mod chance;
pub mod cluster;
pub mod dialing;
pub mod generate;
pub mod invariants;
pub mod kinds;
pub mod leftovers;
pub mod letters;
pub mod names;
pub mod network;
pub mod node;
pub mod process;
pub mod quiet;
pub mod replicas;
pub mod reports;
pub mod run;
pub mod server;
pub mod shrink;
pub mod story;
pub mod stream;
pub mod trouble;
pub mod with_replicas;
pub mod world;
