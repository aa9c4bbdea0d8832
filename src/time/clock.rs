//! The clock of leases. It never jumps, and it counts while the machine is suspended.

use std::time::Duration;

#[cfg(test)]
thread_local! {
    static SIMULATED: std::cell::Cell<Option<fn() -> u64>> = const { std::cell::Cell::new(None) };
}

/// The clock that this thread reads from now on; `None` is the system's.
#[cfg(test)]
pub fn simulate(clock: Option<fn() -> u64>) {
    SIMULATED.set(clock);
}

/// A point in time, in nanoseconds since an arbitrary start that is the same for the whole process.
///
/// `CLOCK_BOOTTIME` on Linux ([clock_gettime(2)](https://man7.org/linux/man-pages/man2/clock_gettime.2.html)):
/// monotonic, and counting while the machine is suspended, as the ttl in redis does. `Instant` elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(u64);

impl Moment {
    /// The start of the clock: before every moment that [`Moment::now`] gives.
    pub const ZERO: Self = Self(0);

    /// The end of the clock: no moment is later.
    pub const NEVER: Self = Self(u64::MAX);

    /// The current moment.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    #[must_use]
    pub fn now() -> Self {
        #[cfg(test)]
        if let Some(clock) = SIMULATED.get() {
            return Self(clock());
        }
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        Self(
            u64::try_from(time.tv_sec)
                .unwrap_or(0)
                .saturating_mul(1_000_000_000)
                .saturating_add(u64::try_from(time.tv_nsec).unwrap_or(0)),
        )
    }

    /// The current moment.
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    #[must_use]
    pub fn now() -> Self {
        use std::sync::OnceLock;
        use std::time::Instant;
        static START: OnceLock<Instant> = OnceLock::new();
        let elapsed = START.get_or_init(Instant::now).elapsed();
        Self(u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX).saturating_add(1))
    }

    /// `duration` later; [`Moment::NEVER`] if that overflows.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(nanoseconds))
    }

    /// How long it is until `later`; zero if `later` has passed.
    #[must_use]
    pub fn until(self, later: Self) -> Duration {
        Duration::from_nanos(later.0.saturating_sub(self.0))
    }

    /// The nanoseconds, to store in an atomic.
    #[must_use]
    pub fn to_bits(self) -> u64 {
        self.0
    }

    /// The moment of [`Moment::to_bits`].
    #[must_use]
    pub fn from_bits(bits: u64) -> Self {
        Self(bits)
    }
}
