//! The locks and atomics that two threads share. Under `--cfg model` they are loom's, which runs every interleaving of the
//! threads of a test (src/tests/model.rs).

#[cfg(not(model))]
pub use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64};
#[cfg(not(model))]
pub use std::sync::{Mutex, MutexGuard};

#[cfg(model)]
pub use loom::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64};
#[cfg(model)]
pub use loom::sync::{Mutex, MutexGuard};
