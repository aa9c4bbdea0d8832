//! Limits an action to once a second, without ever dropping the last occasion for it; or to so many times a second.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use tokio::task::spawn_local;
use tokio::time::{Instant, sleep_until};

const SECOND: Duration = Duration::from_secs(1);

/// The limit of one action.
#[derive(Debug, Default)]
pub struct Pace {
    last: Cell<Option<Instant>>,
    is_due: Cell<bool>,
}

impl Pace {
    /// Calls `act` now, or a second after the last time, once for all occasions until then. Not if this was dropped by
    /// then.
    pub fn occasion(self: &Rc<Self>, act: impl FnOnce() + 'static) {
        let Some(next) = self.last.get().map(|last| last + SECOND).filter(|next| *next > Instant::now())
        else {
            self.last.set(Some(Instant::now()));
            return act();
        };
        if self.is_due.replace(true) {
            return;
        }
        let pace = Rc::downgrade(self);
        spawn_local(async move {
            sleep_until(next).await;
            if let Some(pace) = pace.upgrade() {
                pace.is_due.set(false);
                pace.last.set(Some(Instant::now()));
                act();
            }
        });
    }
}

/// A limit on how often something is done in one second.
#[derive(Debug, Default)]
pub struct Quota(Cell<(Option<Instant>, u32)>);

impl Quota {
    /// True if fewer than `most` were taken in this second, this one not counted.
    pub fn take(&self, most: u32) -> bool {
        let (since, taken) = match self.0.get() {
            (Some(since), taken) if since.elapsed() < SECOND => (since, taken),
            _ => (Instant::now(), 0),
        };
        self.0.set((Some(since), taken.saturating_add(1)));
        taken < most
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::task::LocalSet;
    use tokio::time::sleep;

    fn counted(pace: &Rc<Pace>, count: &Rc<Cell<u32>>) {
        let count = Rc::clone(count);
        pace.occasion(move || count.set(count.get() + 1));
    }

    #[tokio::test]
    async fn an_occasion_within_the_second_is_met_at_its_end_and_all_of_them_once() {
        let local = LocalSet::new();
        let (pace, count) = (Rc::<Pace>::default(), Rc::<Cell<u32>>::default());
        let test = async {
            let start = Instant::now();
            counted(&pace, &count);
            assert_eq!(count.get(), 1);
            for _ in 0..1_000 {
                counted(&pace, &count);
            }
            assert!(count.get() == 1 || start.elapsed() > SECOND);
            while count.get() < 2 {
                sleep(Duration::from_millis(10)).await;
                assert!(start.elapsed() < 10 * SECOND);
            }
            assert!(start.elapsed() >= SECOND);
            sleep(2 * SECOND).await;
            assert_eq!(count.get(), 2);
        };
        local.run_until(test).await;
    }

    #[tokio::test]
    async fn what_is_due_ends_with_its_pace() {
        let local = LocalSet::new();
        let (pace, count) = (Rc::<Pace>::default(), Rc::<Cell<u32>>::default());
        let test = async {
            counted(&pace, &count);
            counted(&pace, &count);
            drop(pace);
            sleep(2 * SECOND).await;
            assert_eq!((count.get(), Rc::strong_count(&count)), (1, 1));
        };
        local.run_until(test).await;
    }
}
