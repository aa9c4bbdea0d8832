//! The world that the core can be run in, in test builds only: nothing of it is in the shipped binary.

#![allow(clippy::unwrap_used, reason = "test code: what cannot be is to stop the test")]
#![allow(dead_code, reason = "a network and processes are to come, which call the rest")]

pub mod server;
