//! The settings of one call: endpoint, owner and limits, as the caller's fields were when it was made.

use std::sync::Arc;
use std::time::Duration;

use crate::model::endpoint::Endpoint;
use crate::model::lease::Terms;

/// Which events are reported. Nobody formats a line that nobody reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// None but losses.
    Silent,
    /// Failures.
    Errors,
    /// Everything, successes included.
    Info,
}

/// The settings of a call. Shared between the calls of an instance until a field changes.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Which redis.
    pub endpoint: Arc<Endpoint>,
    /// The start of every key; the resource's name follows.
    pub key_prefix: String,
    /// How many replicas must have a lock before it counts; 0 for none.
    pub min_replicas: u32,
    /// The start of every value: `<by>-<identifier>`. The token follows.
    pub owner: String,
    /// Ttl, renewal interval and longest hold.
    pub terms: Terms,
    /// The limit for connecting, with the handshake.
    pub connect_timeout: Duration,
    /// The limit for one command's reply, and for how long a call retries what the server refuses for now.
    pub command_timeout: Duration,
    /// Which events are reported.
    pub log_level: LogLevel,
}

/// The default prefix, the same as in 0.4.0 and in Clever's Go and Python packages.
pub const DEFAULT_KEY_PREFIX: &str = "reservation-";

/// The default for [`Settings::connect_timeout`].
pub const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

impl Settings {
    /// The default command limit: a third of the ttl, so that after a renewal that times out there is time for another.
    /// At least 50 ms, at most 5 s, and never more than the ttl.
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
