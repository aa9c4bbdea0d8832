//! The clock that leases are counted on: it never jumps and goes on while the machine is suspended.

use std::time::Duration;

/// A point in time, in nanoseconds since an arbitrary start that is the same for the whole process.
///
/// `CLOCK_BOOTTIME` on Linux ([clock_gettime(2)](https://man7.org/linux/man-pages/man2/clock_gettime.2.html)):
/// monotonic, and counting while the machine sleeps, as the ttl in redis does. `Instant` elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(u64);

impl Moment {
    /// The start of the clock: before every moment that [`Moment::now`] gives.
    pub const ZERO: Self = Self(0);

    /// The end of the clock: no moment is after it.
    pub const NEVER: Self = Self(u64::MAX);

    /// This very instant.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    #[must_use]
    pub fn now() -> Self {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        Self(
            u64::try_from(time.tv_sec)
                .unwrap_or(0)
                .saturating_mul(1_000_000_000)
                .saturating_add(u64::try_from(time.tv_nsec).unwrap_or(0)),
        )
    }

    /// This very instant.
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    #[must_use]
    pub fn now() -> Self {
        use std::sync::OnceLock;
        use std::time::Instant;
        static START: OnceLock<Instant> = OnceLock::new();
        let elapsed = START.get_or_init(Instant::now).elapsed();
        Self(u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX).saturating_add(1))
    }

    /// `duration` later; the end of time where that would overflow.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(nanoseconds))
    }

    /// How long it is from here until `later`; zero if that is past.
    #[must_use]
    pub fn until(self, later: Self) -> Duration {
        Duration::from_nanos(later.0.saturating_sub(self.0))
    }

    /// The nanoseconds, for an atomic that another thread reads.
    #[must_use]
    pub fn to_bits(self) -> u64 {
        self.0
    }

    /// What [`Moment::to_bits`] gave.
    #[must_use]
    pub fn from_bits(bits: u64) -> Self {
        Self(bits)
    }
}
