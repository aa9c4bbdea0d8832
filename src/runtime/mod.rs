//! Support for tasks: starts, restarts after a panic, and fail points for tests.

#[macro_use]
pub mod fail_point;

pub mod guard;
pub mod task;
