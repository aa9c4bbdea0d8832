//! Time: the clock, pauses between retries, and the time that one call may spend.

pub mod backoff;
pub mod budget;
pub mod clock;
pub mod pace;
