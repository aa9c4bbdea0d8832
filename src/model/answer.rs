//! How the core answers: every call once, and what happens without a call as events. Knows nothing of JavaScript.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::model::error::Error;
use crate::model::reservation::Reservation;
use crate::model::settings::LogLevel;

/// What a call gets when it succeeds.
#[derive(Debug)]
pub enum Answer {
    /// `lock` or a wait has it.
    Acquired(Arc<Reservation>),
    /// `lock` found it held; by whom, if that was asked and is known.
    Taken {
        /// The holder's value.
        holder: Option<String>,
    },
    /// How many reservations a release has freed.
    Released(usize),
    /// Everything that is held was renewed.
    Renewed,
    /// A connection was closed, or left alone because it is needed.
    Disconnected,
}

/// One reservation that was lost.
#[derive(Clone, Debug)]
pub struct Loss {
    /// What is lost.
    pub reservation: Arc<Reservation>,
    /// Who holds it now, if that is known.
    pub holder: Option<String>,
}

impl Loss {
    /// A loss that was found before, and is told by whoever has this.
    #[must_use]
    pub fn of(reservation: Arc<Reservation>) -> Self {
        let holder = reservation.taken_by().map(str::to_owned);
        Self { reservation, holder }
    }

    /// The loss as the error that tells of it.
    #[must_use]
    pub fn to_error(&self) -> Error {
        let (key, value) = (self.reservation.key().to_owned(), self.reservation.value());
        Error::Lost { key, value, holder: self.holder.clone() }
    }
}

/// A call that failed, with what of it did happen.
#[derive(Debug)]
pub struct CallFailure {
    /// The reason.
    pub error: Error,
    /// Reservations that this call found lost; its error is what tells of them.
    pub lost: Vec<Loss>,
    /// For a release: how many it freed all the same.
    pub released: Option<usize>,
    /// For a release: the keys that may be released again.
    pub failed: Vec<Arc<str>>,
}

impl From<Error> for Box<CallFailure> {
    fn from(error: Error) -> Self {
        Self::new(CallFailure { error, lost: Vec::new(), released: None, failed: Vec::new() })
    }
}

/// What happens without a call of its own.
#[derive(Debug)]
pub enum Event {
    /// A renewal succeeded.
    Extended {
        /// What was renewed.
        reservation: Arc<Reservation>,
        /// For how long.
        ttl: Duration,
    },
    /// A renewal failed; it is tried again until the deadline.
    ExtendFailed {
        /// What was to be renewed.
        reservation: Arc<Reservation>,
        /// The reason.
        error: Error,
    },
    /// An outage was noticed while waiting.
    Outage {
        /// The call that waits.
        call: u64,
        /// The host, as the caller gave it.
        host: String,
        /// The port.
        port: u16,
        /// The reason.
        error: Error,
    },
    /// A waiter tried and did not get it.
    Attempted {
        /// The call that waits.
        call: u64,
        /// The key that it waits for.
        key: Arc<str>,
        /// The holder's value, if it was read.
        holder: Option<String>,
    },
    /// The server does not tell when a key changes: who waits there finds out by polling.
    PollingOnly {
        /// The call that waits.
        call: u64,
        /// `host:port`.
        endpoint: String,
        /// What the server said, or what it lacks.
        reason: String,
    },
    /// A reservation was lost.
    Lost {
        /// What was held.
        reservation: Arc<Reservation>,
        /// Which loss it was.
        loss: Loss,
        /// It was never to be renewed and its time is over: no alarm.
        quiet: bool,
    },
    /// The time of a reservation whose release had failed is over.
    Lapsed {
        /// What was held.
        reservation: Arc<Reservation>,
    },
}

impl Event {
    /// The level from which the event is wanted; `None` is always.
    #[must_use]
    pub fn level(&self) -> Option<LogLevel> {
        match self {
            Self::Extended { .. } | Self::Attempted { .. } => Some(LogLevel::Info),
            Self::ExtendFailed { .. } | Self::Outage { .. } | Self::PollingOnly { .. } => {
                Some(LogLevel::Errors)
            }
            Self::Lost { .. } | Self::Lapsed { .. } => None,
        }
    }
}

/// Where answers and events go. Implemented by the mailbox, and by tests with a channel.
pub trait EventSink: Send + Sync {
    /// Ends a call. The core never answers one twice.
    fn answer(&self, call: u64, answer: Result<Answer, Box<CallFailure>>);
    /// Tells what happened.
    fn report(&self, event: Event);
    /// False once the environment has ended: nobody is there to hold anything.
    fn is_open(&self) -> bool;
}

/// Who makes calls: an environment (a main thread, a worker), whose end takes all with it. One for all its calls.
pub struct Caller {
    /// Where its answers and events go.
    pub sink: Arc<dyn EventSink>,
    /// Its number, unique in the process.
    pub environment: u64,
}

impl Caller {
    /// Tells it what happened, if that is wanted at `level`.
    pub fn report(&self, level: LogLevel, event: Event) {
        if event.level().is_none_or(|wanted| wanted <= level) {
            self.sink.report(event);
        }
    }
}

impl fmt::Debug for Caller {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Caller").field("environment", &self.environment).finish_non_exhaustive()
    }
}

/// The right, and the duty, to answer one call. Dropping it unanswered answers with an internal error, so that a
/// panic in a task never leaves a callback waiting.
#[derive(Debug)]
pub struct Ticket {
    /// The call's number, unique in its environment.
    pub call: u64,
    /// Who made it.
    pub caller: Arc<Caller>,
    answered: bool,
}

impl Ticket {
    /// A ticket for one call.
    #[must_use]
    pub fn new(call: u64, caller: Arc<Caller>) -> Self {
        Self { call, caller, answered: false }
    }

    /// Answers the call.
    pub fn answer(mut self, answer: Result<Answer, Box<CallFailure>>) {
        self.answered = true;
        self.caller.sink.answer(self.call, answer);
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if !self.answered {
            let error = Error::Internal("the task of this call ended without an answer".into());
            self.caller.sink.answer(self.call, Err(error.into()));
        }
    }
}
