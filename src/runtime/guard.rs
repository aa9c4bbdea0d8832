//! Restarts long-lived tasks after a panic.

use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::runtime::task::spawn;
use crate::time::backoff::Backoff;

/// Runs the task that `make` gives until it ends. After a panic, which the panic hook has reported, it backs off and
/// starts a new one.
pub fn keep_running<Task>(make: impl Fn() -> Task + 'static) -> JoinHandle<()>
where
    Task: Future<Output = ()> + 'static,
{
    spawn(async move {
        let mut backoff = Backoff::default();
        while spawn(make()).await.is_err() {
            sleep(backoff.next_delay()).await;
        }
    })
}
