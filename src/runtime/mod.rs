//! Support for tasks and threads: starts, restarts after a panic, whose they are, what two threads share, and fail points
//! for tests.

#[macro_use]
pub mod fail_point;

pub mod guard;
pub mod owner;
pub mod sync;
pub mod task;
