//! The time that one call may spend on redis, and the pauses between its tries.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::time::backoff::Backoff;

/// The last try has a quarter of the whole time for itself, but no more than this.
const LONGEST_LAST_TRY: Duration = Duration::from_millis(250);

/// Counts from a call's first command: connecting has a limit of its own.
#[derive(Debug)]
pub struct Budget {
    each: Duration,
    is_endless: bool,
    end: Option<Instant>,
    backoff: Backoff,
}

impl Budget {
    /// For a call that has `whole` for all its tries.
    #[must_use]
    pub fn new(whole: Duration) -> Self {
        Self { each: whole, is_endless: false, end: None, backoff: Backoff::default() }
    }

    /// For a call whose first command was sent at `began`.
    #[must_use]
    pub fn since(began: Instant, whole: Duration) -> Self {
        Self { end: Some(began + whole), ..Self::new(whole) }
    }

    /// For a call that tries for ever; `each` is the limit of one command.
    #[must_use]
    pub fn endless(each: Duration) -> Self {
        Self { is_endless: true, ..Self::new(each) }
    }

    /// True for a call that tries for ever.
    #[must_use]
    pub fn is_endless(&self) -> bool {
        self.is_endless
    }

    /// How long the next command may take.
    pub fn remaining(&mut self) -> Duration {
        if self.is_endless {
            return self.each;
        }
        let end = *self.end.get_or_insert_with(|| Instant::now() + self.each);
        end.saturating_duration_since(Instant::now())
    }

    /// True once there is no time for another try.
    #[must_use]
    pub fn is_over(&self) -> bool {
        !self.is_endless && self.end.is_some_and(|end| Instant::now() >= end)
    }

    /// True while there is time for a try that redis can answer.
    pub fn has_time(&mut self) -> bool {
        self.is_endless || self.remaining() > (self.each / 8).min(LONGEST_LAST_TRY)
    }

    /// How long to pause before another try, of a call that has time for it.
    pub fn next_delay(&mut self) -> Duration {
        self.backoff.next_delay()
    }

    /// Pauses before another try. False, and at once, if there is no time for one: what the last try met is a better
    /// answer than that another had not enough of it.
    pub async fn pause(&mut self) -> bool {
        let spare = self.remaining().saturating_sub((self.each / 4).min(LONGEST_LAST_TRY));
        if spare.is_zero() {
            return false;
        }
        sleep(self.next_delay().min(spare)).await;
        true
    }
}
