//! What the threads and tasks of this crate run on: restarts after a panic, and fail points of tests.

#[macro_use]
pub mod fail_point;

pub mod guard;
