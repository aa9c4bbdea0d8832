//! How the core answers: one answer for each call, and events for what happens outside of a call. Knows nothing of
//! JavaScript.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::model::error::Error;
use crate::model::reservation::Reservation;
use crate::model::settings::LogLevel;

/// The result of a call that succeeded.
#[derive(Debug)]
pub enum Answer {
    /// `lock` or `wait_until_lock` acquired it.
    Acquired(Arc<Reservation>),
    /// `lock` found the key held; by whom, if that was read.
    Taken {
        /// The holder's value.
        holder: Option<String>,
    },
    /// How many reservations a release freed.
    Released(usize),
    /// Every reservation of the call that is held was renewed.
    Renewed,
    /// The connection was closed, or left open because something needs it.
    Disconnected,
}

/// One reservation that was lost.
#[derive(Clone, Debug)]
pub struct Loss {
    /// The reservation that was lost.
    pub reservation: Arc<Reservation>,
    /// Who holds it now, if that is known.
    pub holder: Option<String>,
}

impl Loss {
    /// A loss that was found earlier and is told now.
    #[must_use]
    pub fn of(reservation: Arc<Reservation>) -> Self {
        let holder = reservation.taken_by().map(str::to_owned);
        Self { reservation, holder }
    }

    /// The loss as an error.
    #[must_use]
    pub fn to_error(&self) -> Error {
        let (key, value) = (self.reservation.key().to_owned(), self.reservation.value());
        Error::Lost { key, value, holder: self.holder.clone() }
    }
}

/// A call that failed, and what it did all the same.
#[derive(Debug)]
pub struct CallFailure {
    /// The reason.
    pub error: Error,
    /// Reservations that this call found lost. Its error tells the first of them, so no event does.
    pub lost: Vec<Loss>,
    /// For a release: how many reservations it freed all the same.
    pub released: Option<usize>,
    /// For a release: the keys that it failed to free. They may be released again.
    pub failed: Vec<Arc<str>>,
}

impl From<Error> for Box<CallFailure> {
    fn from(error: Error) -> Self {
        Self::new(CallFailure { error, lost: Vec::new(), released: None, failed: Vec::new() })
    }
}

/// Something that happened outside of a call.
#[derive(Debug)]
pub enum Event {
    /// A renewal succeeded.
    Extended {
        /// What was renewed.
        reservation: Arc<Reservation>,
        /// For how long.
        ttl: Duration,
    },
    /// A renewal failed; it is retried until the deadline.
    ExtendFailed {
        /// What was to be renewed.
        reservation: Arc<Reservation>,
        /// The reason.
        error: Error,
    },
    /// The connection failed while a call waits.
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
    /// A waiter tried and found the key held.
    Attempted {
        /// The call that waits.
        call: u64,
        /// The key.
        key: Arc<str>,
        /// The holder's value, if it was read.
        holder: Option<String>,
    },
    /// The server does not report changes of a key, so its waiters poll.
    PollingOnly {
        /// The call that waits.
        call: u64,
        /// `host:port`.
        endpoint: String,
        /// The server's words, or what it lacks.
        reason: String,
    },
    /// A reservation was lost.
    Lost {
        /// What was held.
        reservation: Arc<Reservation>,
        /// The loss as it is told.
        loss: Loss,
        /// True if it was never to be renewed and its ttl has run out, as asked: not worth a warning.
        quiet: bool,
    },
    /// The lease of a reservation has ended after its release had failed.
    Lapsed {
        /// What was held.
        reservation: Arc<Reservation>,
    },
}

impl Event {
    /// The log level from which the event is reported; `None` if it always is.
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

/// Where answers and events go: the mailbox, or a channel in tests.
pub trait EventSink: Send + Sync {
    /// Answers a call. The core answers each call once.
    fn answer(&self, call: u64, answer: Result<Answer, Box<CallFailure>>);
    /// Reports an event.
    fn report(&self, event: Event);
    /// False once the environment has ended: nobody is left to hold a lock.
    fn is_open(&self) -> bool;
}

/// Who makes calls: an environment. All of its calls share one `Caller`, and end with it.
pub struct Caller {
    /// Where its answers and events go.
    pub sink: Arc<dyn EventSink>,
    /// Its number, unique in the process.
    pub environment: u64,
}

impl Caller {
    /// Reports an event, if `level` includes it.
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

/// The duty to answer one call. Dropped unanswered, it answers with an internal error, so a panic in a task leaves no
/// callback waiting.
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
