//! What one call goes by: the endpoint, the worker's name and the limits, as the caller's fields were at that moment.

use std::sync::Arc;
use std::time::Duration;

use crate::model::endpoint::Endpoint;
use crate::model::lease::Terms;

/// Which events are worth making: nobody formats a line that nobody reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// None; losses are told all the same.
    Silent,
    /// Failures.
    Errors,
    /// Everything.
    Info,
}

/// The settings of a call. Shared between the calls of an instance until a field changes.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Which redis.
    pub endpoint: Arc<Endpoint>,
    /// Before a resource's name in its key.
    pub key_prefix: String,
    /// How many replicas must have a lock before it counts; 0 asks none.
    pub min_replicas: u32,
    /// The start of every value: `<by>-<identifier>`.
    pub owner: String,
    /// Ttl, renewal interval and longest hold.
    pub terms: Terms,
    /// How long a connect and its handshake may take.
    pub connect_timeout: Duration,
    /// How long a command may go unanswered, and how long a call retries what a server refuses for now.
    pub command_timeout: Duration,
    /// Which events are wanted.
    pub log_level: LogLevel,
}

/// The prefix of keys when nothing else is said, as 0.4.0 and Clever's Go and Python packages have it.
pub const DEFAULT_KEY_PREFIX: &str = "reservation-";

/// How long a connect may take when nothing else is said.
pub const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

impl Settings {
    /// The command limit when none is given: a third of the ttl, so that a renewal that hangs leaves time for
    /// another, within 50 ms and 5 s; and never above the ttl.
    #[must_use]
    pub fn default_command_timeout(ttl: Duration) -> Duration {
        (ttl / 3).clamp(Duration::from_millis(50), Duration::from_secs(5)).min(ttl)
    }

    /// The key of a resource.
    #[must_use]
    pub fn key_of(&self, resource: &str) -> String {
        [&self.key_prefix, resource].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_limit_leaves_a_lease_time_for_another_try() {
        for (ttl, limit) in [(40, 40), (100, 50), (2_000, 666), (30_000, 5_000)] {
            assert_eq!(
                Settings::default_command_timeout(Duration::from_millis(ttl)).as_millis(),
                limit,
                "ttl {ttl} ms"
            );
        }
    }
}
