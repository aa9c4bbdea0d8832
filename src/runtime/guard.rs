//! Tasks that are to run for as long as what they serve: a panic in one is the end of what it was doing, not of the task.

use tokio::task::{JoinHandle, spawn_local};
use tokio::time::sleep;

use crate::time::backoff::Backoff;

/// Runs what `make` gives until that ends, and makes it anew after a panic (which the panic hook has told already).
pub fn keep_running<Task>(make: impl Fn() -> Task + 'static) -> JoinHandle<()>
where
    Task: Future<Output = ()> + 'static,
{
    spawn_local(async move {
        let mut backoff = Backoff::default();
        while spawn_local(make()).await.is_err() {
            sleep(backoff.next_delay()).await;
        }
    })
}
