//! The results of one release, of all its reservations, and the one answer that they make.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use crate::error::Error;
use crate::outlet::{Answer, CallFailure, Loss};
use crate::release::Outcome;

/// The results of one release, of all its reservations.
#[derive(Default)]
pub struct Releases {
    released: usize,
    lost: Vec<Loss>,
    failed: Vec<Arc<str>>,
    failure: Option<Error>,
}

impl Releases {
    /// The results of a release that is to tell losses which were found before.
    #[must_use]
    pub fn telling(lost: Vec<Loss>) -> Self {
        Self { lost, ..Self::default() }
    }

    /// Gives a share for each of `count` reservations. `done` is told when all of them are gone.
    pub fn shares(self, count: usize, done: impl FnOnce(Self) + 'static) -> impl Iterator<Item = Share> {
        let done: Done = Box::new(done);
        let counter = Rc::new(Count { releases: RefCell::new(self), done: Cell::new(Some(done)) });
        std::iter::repeat_n(counter, count).map(|count| Share { count, is_told: false })
    }

    /// The answer to the call.
    ///
    /// # Errors
    /// What was lost, and what could not be released.
    pub fn into_answer(self) -> Result<Answer, Box<CallFailure>> {
        let Self { released, lost, failed, failure } = self;
        match failure.or_else(|| lost.first().map(Loss::to_error)) {
            None => Ok(Answer::Released(released)),
            Some(error) => Err(Box::new(CallFailure { error, lost, released: Some(released), failed })),
        }
    }

    fn add(&mut self, outcome: Result<Outcome, Error>) {
        match outcome {
            Ok(Outcome::Released) => self.released += 1,
            Ok(Outcome::Lost(loss)) => self.lost.push(loss),
            Ok(Outcome::Failed(key, error)) => {
                self.failed.push(key);
                self.failure.get_or_insert(error);
            }
            Err(error) => {
                self.failure.get_or_insert(error);
            }
        }
    }
}

type Done = Box<dyn FnOnce(Releases)>;

/// Counts the results. Tells them when the last share of it is gone.
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

/// One reservation's share of a release. One that is dropped untold, by a panic say, counts as a failure.
pub struct Share {
    count: Rc<Count>,
    is_told: bool,
}

impl Share {
    /// What became of it.
    pub fn tell(mut self, outcome: Outcome) {
        self.is_told = true;
        self.count.releases.borrow_mut().add(Ok(outcome));
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        if !self.is_told {
            let error = Error::Internal("a release ended without an answer".into());
            self.count.releases.borrow_mut().add(Err(error));
        }
    }
}
