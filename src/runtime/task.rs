//! Starts tasks on the core's thread.

use std::pin::Pin;

use tokio::task::{JoinHandle, spawn_local};

/// Starts a task. The future is boxed, so tasks with the same result are of one type for tokio: it makes some twenty
/// functions for each type of task, 2 kB of the binary.
pub fn spawn<Result: 'static>(future: impl Future<Output = Result> + 'static) -> JoinHandle<Result> {
    spawn_boxed(Box::pin(future))
}

/// Starts a task whose future is boxed already.
#[allow(clippy::must_use_candidate, reason = "as with tokio's own: the handle is of use to few")]
pub fn spawn_boxed<Result: 'static>(future: Pin<Box<dyn Future<Output = Result>>>) -> JoinHandle<Result> {
    spawn_local(future)
}
