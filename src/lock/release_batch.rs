//! Collects the results of one release call, and makes the one answer from them.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use crate::lock::release::Outcome;
use crate::model::answer::{Answer, CallFailure, Loss};
use crate::model::error::Error;
use crate::model::reservation::Reservation;

/// The results of one release call.
#[derive(Default)]
pub struct Releases {
    released: usize,
    lost: Vec<Loss>,
    failed: Vec<Arc<str>>,
    failure: Option<Error>,
}

impl Releases {
    /// Starts with losses that were found before and that this release tells.
    #[must_use]
    pub fn telling(lost: Vec<Loss>) -> Self {
        Self { lost, ..Self::default() }
    }

    /// One share for each reservation. `done` is called with the results when all shares are dropped.
    pub fn shares(self, reservations: &[Arc<Reservation>], done: Done) -> impl Iterator<Item = Share> {
        let counter = Rc::new(Count { releases: RefCell::new(self), done: Cell::new(Some(done)) });
        let keys = reservations.iter().map(|reservation| Some(reservation.key().into()));
        keys.map(move |key| Share { count: Rc::clone(&counter), key })
    }

    /// The answer to the call.
    ///
    /// # Errors
    /// The first failure, or the first loss.
    pub fn into_answer(self) -> Result<Answer, Box<CallFailure>> {
        let Self { released, lost, failed, failure } = self;
        match failure.or_else(|| lost.first().map(Loss::to_error)) {
            None => Ok(Answer::Released(released)),
            Some(error) => Err(Box::new(CallFailure { error, lost, released: Some(released), failed })),
        }
    }

    fn add(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Released => self.released += 1,
            Outcome::Lost(loss) => self.lost.push(loss),
            Outcome::Failed(key, error) => {
                self.failed.push(key);
                self.failure.get_or_insert(error);
            }
        }
    }
}

/// Called with the results.
pub type Done = Box<dyn FnOnce(Releases)>;

/// Collects the results. Calls `done` when the last share is dropped.
struct Count {
    releases: RefCell<Releases>,
    done: Cell<Option<Done>>,
}

impl Drop for Count {
    fn drop(&mut self) {
        if let Some(done) = self.done.take() {
            done(self.releases.take());
        }
    }
}

/// One reservation's share of a release. If it is dropped without a result, say by a panic, the release of that
/// reservation has failed.
pub struct Share {
    count: Rc<Count>,
    /// The reservation's key; `None` once the result is known.
    key: Option<Arc<str>>,
}

impl Share {
    /// Sets the result.
    pub fn tell(mut self, outcome: Outcome) {
        self.key = None;
        self.count.releases.borrow_mut().add(outcome);
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        if let Some(key) = self.key.take() {
            let error = Error::Internal("a release ended without an answer".into());
            self.count.releases.borrow_mut().add(Outcome::Failed(key, error));
        }
    }
}
