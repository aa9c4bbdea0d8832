//! Every failure as one enum: the sentence that a user reads, the stable code, and what may be tried next.

use std::sync::Arc;

use redis::ServerError;

use crate::model::acl::denied_sentence;
use crate::model::endpoint::Endpoint;
use crate::model::refusal::{Class, class_of, code_of, words_of};

/// One failure. `Display` is the finished sentence; no variant can hold a password.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// No connection could be made.
    #[error("Redis connection to {endpoint} failed - {detail}")]
    Connection {
        /// Which redis, as the caller named it.
        endpoint: Arc<Endpoint>,
        /// What the system said, in Node's wording: `connect ECONNREFUSED 127.0.0.1:6379`.
        detail: String,
        /// The system's name of the error, such as `ECONNREFUSED`.
        reason: &'static str,
    },
    /// The connection broke after the command was sent. Nobody knows whether the command ran.
    #[error("Redis connection to {endpoint} was lost before {command} of {key} was answered")]
    Dropped {
        /// Which redis.
        endpoint: Arc<Endpoint>,
        /// The redis command.
        command: &'static str,
        /// The key it was about.
        key: String,
    },
    /// No answer within the command's time limit.
    #[error("{endpoint} did not answer {command} of {key} within {after_ms} ms{consequence}")]
    Timeout {
        /// Which redis.
        endpoint: Arc<Endpoint>,
        /// The redis command.
        command: &'static str,
        /// The key it was about.
        key: String,
        /// The limit.
        after_ms: u128,
        /// What happens to the command if it still runs; empty, or starting with a separator.
        consequence: &'static str,
    },
    /// The server, or a sentinel on the way to it, refused our credentials, or refused the command to them.
    #[error("{}", denied_sentence(endpoint, text, sentinel.as_deref()))]
    Denied {
        /// Which redis.
        endpoint: Arc<Endpoint>,
        /// Redis's own words.
        text: String,
        /// The sentinel that refused; `None` if the server did.
        sentinel: Option<Arc<Endpoint>>,
    },
    /// Any other error reply.
    #[error("{command}{of} at {endpoint} was refused: {text}", of = of(key))]
    Reply {
        /// Which redis.
        endpoint: Arc<Endpoint>,
        /// The redis command.
        command: &'static str,
        /// The key it was about; empty during a handshake.
        key: String,
        /// Redis's own words.
        text: String,
        /// What the reply means for the caller.
        class: Class,
    },
    /// The key was taken, but too few replicas confirmed it, so it was released.
    #[error(
        "{key} reached {reached} of the {wanted} replicas of {endpoint} that it must (min_replicas) within {after_ms} ms; \
         it was given back"
    )]
    TooFewReplicas {
        /// Which redis.
        endpoint: Arc<Endpoint>,
        /// The key.
        key: String,
        /// How many replicas have confirmed it.
        reached: i64,
        /// How many should have.
        wanted: u32,
        /// The limit.
        after_ms: u128,
    },
    /// The reservation is gone.
    #[error("{}", lost_sentence(key, value, holder.as_deref()))]
    Lost {
        /// The key that was held.
        key: String,
        /// The value it was held with.
        value: String,
        /// Who holds it now, if that is known.
        holder: Option<String>,
    },
    /// A renewal was asked for, and nothing is held.
    #[error("No reservation is held: lock one before it can be renewed")]
    NotHeld,
    /// A wait has timed out.
    #[error("Waited {after_ms} ms for {key} without getting it (timeout)")]
    WaitTimeout {
        /// The key that was waited for.
        key: String,
        /// The limit.
        after_ms: u128,
    },
    /// A wait was cancelled by its caller.
    #[error("The wait for {key} was aborted")]
    Aborted {
        /// The key that was waited for.
        key: String,
    },
    /// An argument is invalid, and the face did not notice.
    #[error("{0}")]
    InvalidValue(String),
    /// The system refused a resource that the core's thread needs.
    #[error("redis-reservation could not start its thread: {text}. {remedy}The next call tries again.")]
    Shortage {
        /// What the system said.
        text: String,
        /// The system's name of the error, such as `EMFILE`.
        reason: &'static str,
        /// Which limit to raise; empty, or a sentence and a space.
        remedy: &'static str,
    },
    /// A fault of this library.
    #[error("redis-reservation failed inside: {0}; please report it")]
    Internal(String),
}

fn of(key: &str) -> String {
    if key.is_empty() { String::new() } else { format!(" of {key}") }
}

fn lost_sentence(key: &str, value: &str, holder: Option<&str>) -> String {
    match holder {
        Some(holder) => format!("Worker {value} lost {key} to {holder}"),
        None => format!("Worker {value} lost reservation for {key}"),
    }
}

/// The system's name for the error, and the sentence that says which limit to raise.
#[cfg(unix)]
fn limit_behind(error: &std::io::Error) -> (&'static str, &'static str) {
    use rustix::io::Errno;
    match Errno::from_io_error(error) {
        Some(Errno::MFILE) => {
            ("EMFILE", "This process may open no more files: raise its limit (`ulimit -n`). ")
        }
        Some(Errno::NFILE) => {
            ("ENFILE", "The system may open no more files: raise its limit (`fs.file-max`). ")
        }
        Some(Errno::AGAIN) => (
            "EAGAIN",
            "No further thread may be started: raise the limit of threads (`ulimit -u`; the pids limit of a container; \
             TasksMax of a systemd unit). ",
        ),
        Some(Errno::NOMEM) => (
            "ENOMEM",
            "There is no memory left: raise the limit of this process (`ulimit -v`) or of its container. ",
        ),
        _ => ("UNKNOWN", ""),
    }
}

#[cfg(not(unix))]
fn limit_behind(_error: &std::io::Error) -> (&'static str, &'static str) {
    ("UNKNOWN", "")
}

impl Error {
    /// An error of the system at the start of the core's thread.
    #[must_use]
    pub fn of_the_system(error: &std::io::Error) -> Self {
        let (reason, remedy) = limit_behind(error);
        Self::Shortage { text: error.to_string(), reason, remedy }
    }

    /// The stable code that callers compare.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Connection { .. } | Self::Dropped { .. } => "ERR_REDIS_CONNECTION",
            Self::Timeout { .. } => "ERR_REDIS_TIMEOUT",
            Self::Denied { .. } => "ERR_REDIS_AUTH",
            Self::Reply { .. } => "ERR_REDIS_REPLY",
            Self::TooFewReplicas { .. } => "ERR_TOO_FEW_REPLICAS",
            Self::Lost { .. } => "ERR_RESERVATION_LOST",
            Self::NotHeld => "ERR_RESERVATION_NOT_HELD",
            Self::WaitTimeout { .. } => "ERR_RESERVATION_TIMEOUT",
            Self::Aborted { .. } => "ABORTED",
            Self::InvalidValue(_) => "ERR_INVALID_ARG_VALUE",
            Self::Shortage { .. } => "ERR_RESOURCE_SHORTAGE",
            Self::Internal(_) => "ERR_INTERNAL",
        }
    }

    /// What may be tried next.
    #[must_use]
    pub fn class(&self) -> Class {
        match self {
            Self::Connection { .. } => Class::Reconnect,
            Self::Dropped { .. } | Self::Timeout { .. } => Class::Unknown,
            Self::Denied { .. } => Class::Denied,
            Self::Reply { class, .. } => *class,
            Self::TooFewReplicas { .. } => Class::Later,
            _ => Class::Final,
        }
    }

    /// True if a node of a cluster says that another node serves the key.
    #[must_use]
    pub fn is_redirection(&self) -> bool {
        matches!(self, Self::Reply { text, .. } if matches!(code_of(text), "MOVED" | "ASK"))
    }

    /// The key that the failure is about, if it is about one.
    #[must_use]
    pub fn key(&self) -> Option<&str> {
        match self {
            Self::Dropped { key, .. }
            | Self::Timeout { key, .. }
            | Self::Reply { key, .. }
            | Self::TooFewReplicas { key, .. }
            | Self::Lost { key, .. }
            | Self::WaitTimeout { key, .. }
            | Self::Aborted { key } => (!key.is_empty()).then_some(key),
            _ => None,
        }
    }

    /// Host and port of the redis it is about, if it is about one.
    #[must_use]
    pub fn address(&self) -> Option<(&str, u16)> {
        let (Self::Connection { endpoint, .. }
        | Self::Dropped { endpoint, .. }
        | Self::Timeout { endpoint, .. }
        | Self::Denied { endpoint, .. }
        | Self::Reply { endpoint, .. }
        | Self::TooFewReplicas { endpoint, .. }) = self
        else {
            return None;
        };
        Some(endpoint.address())
    }

    /// Makes an error of an error reply.
    #[must_use]
    pub fn from_reply(
        endpoint: &Arc<Endpoint>,
        command: &'static str,
        key: &str,
        error: &ServerError,
    ) -> Self {
        let text = words_of(error);
        match class_of(&text) {
            Class::Denied => Self::Denied { endpoint: Arc::clone(endpoint), text, sentinel: None },
            class => {
                Self::Reply { endpoint: Arc::clone(endpoint), command, key: key.to_owned(), text, class }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sentences_of_a_loss_are_those_of_0_4_0() {
        let mut error = Error::Lost { key: "reservation-a".into(), value: "w-1-t".into(), holder: None };
        assert_eq!(error.to_string(), "Worker w-1-t lost reservation for reservation-a");
        if let Error::Lost { holder, .. } = &mut error {
            *holder = Some("MOCK".into());
        }
        assert_eq!(error.to_string(), "Worker w-1-t lost reservation-a to MOCK");
    }
}
