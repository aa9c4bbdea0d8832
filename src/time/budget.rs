//! The time that one call may spend on redis, over all its tries and the pauses between them.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::time::backoff::Backoff;

/// The time reserved for the last try: a quarter of the budget, and no more than this.
const MAX_LAST_TRY: Duration = Duration::from_millis(250);

/// The time of one call. It starts at the call's first command: connecting has a limit of its own.
#[derive(Debug)]
pub struct Budget {
    each: Duration,
    is_endless: bool,
    end: Option<Instant>,
    backoff: Backoff,
}

impl Budget {
    /// For a call that has `whole` for all its tries, from the first [`Self::remaining`] on.
    #[must_use]
    pub fn new(whole: Duration) -> Self {
        Self { each: whole, is_endless: false, end: None, backoff: Backoff::default() }
    }

    /// For a call whose first command was sent at `began`.
    #[must_use]
    pub fn since(began: Instant, whole: Duration) -> Self {
        Self { end: Some(began + whole), ..Self::new(whole) }
    }

    /// For a call that retries for ever; `each` is the limit of one command.
    #[must_use]
    pub fn endless(each: Duration) -> Self {
        Self { is_endless: true, ..Self::new(each) }
    }

    /// True for a call that retries for ever.
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

    /// When the time is over; `None` while it has not begun, and for a call that retries for ever.
    #[must_use]
    pub fn end(&self) -> Option<Instant> {
        self.end.filter(|_| !self.is_endless)
    }

    /// True once there is no time for another try.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.end().is_some_and(|end| Instant::now() >= end)
    }

    /// True while a try has enough time for redis to answer it: half of what [`MAX_LAST_TRY`] reserves, since the pause
    /// before it may have run over.
    pub fn has_time(&mut self) -> bool {
        self.is_endless || self.remaining() > (self.each / 8).min(MAX_LAST_TRY)
    }

    /// The next pause of a call that does not run out of time.
    pub fn next_delay(&mut self) -> Duration {
        self.backoff.next_delay()
    }

    /// Pauses before another try. Returns false at once if there is no time for one: the error of the last try says
    /// more than the timeout of a try that was too short.
    pub async fn pause(&mut self) -> bool {
        let spare = self.remaining().saturating_sub((self.each / 4).min(MAX_LAST_TRY));
        if spare.is_zero() {
            return false;
        }
        sleep(self.next_delay().min(spare)).await;
        true
    }
}
