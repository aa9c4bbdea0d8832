//! What the thread that renews a reservation and the thread whose caller holds it both see of it.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};

use crate::model::claim::Claim;
use crate::model::settings::Settings;
use crate::time::clock::Moment;

/// A reservation that was acquired. Made by the core, read at any moment by its caller's thread.
#[derive(Debug)]
pub struct Reservation {
    /// Its number with its keeper.
    pub id: u64,
    /// The key in redis, and the value it was set to.
    pub claim: Claim,
    /// Until when the lease is certain, as [`Moment::to_bits`]. An atomic, so that asking is right even where the
    /// event loop that will be told of a loss is blocked.
    certain_until: AtomicU64,
    /// Its number in its caller's environment; [`NO_HANDLE`] while it has none.
    handle: AtomicU32,
    phase: AtomicU8,
    /// A release of it was sent and the answer lost: that the key is gone may be our own doing.
    is_release_unknown: AtomicBool,
    /// Who had the key when redis said that it was lost. Set before the phase is [`Phase::Lost`].
    taken_by: OnceLock<Box<str>>,
}

const NO_HANDLE: u32 = u32::MAX;

/// Where in its life a reservation is: the one record of it, for both threads. Each change is a compare-exchange, so that
/// whoever makes it knows what it was before, and of two that want to end it one does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// Acquired and, as far as is known, still there. The only one in which it is renewed.
    Held = 0,
    /// Its caller has asked for the release, and has no answer yet.
    Releasing = 1,
    /// A release has failed, and may be asked for again.
    Unreleased = 2,
    /// Lost, and nobody was told yet: the letter that tells it is on its way.
    Lost = 3,
    /// Released, or lost and told.
    Over = 4,
}

/// What a caller who asks for a release has to do with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// It is to be released, by this request and no other.
    Release,
    /// It was lost before, and this release is what tells it.
    Lost,
    /// Nothing: it is over, or another release of it is under way.
    Nothing,
}

impl Reservation {
    /// A reservation that is certain until `certain_until`.
    #[must_use]
    pub fn new(id: u64, claim: Claim, certain_until: Moment) -> Self {
        Self {
            id,
            claim,
            certain_until: AtomicU64::new(certain_until.to_bits()),
            handle: AtomicU32::new(NO_HANDLE),
            phase: AtomicU8::new(Phase::Held as u8),
            is_release_unknown: AtomicBool::new(false),
            taken_by: OnceLock::new(),
        }
    }

    /// The key in redis.
    #[must_use]
    pub fn key(&self) -> &str {
        self.claim.key()
    }

    /// The value it was set to.
    #[must_use]
    pub fn value(&self) -> String {
        self.claim.value()
    }

    /// What it was acquired with; says where it is to be released.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.claim.settings
    }

    /// True only while the lease is certain at this very instant.
    #[must_use]
    pub fn is_certain(&self) -> bool {
        self.phase() == Phase::Held
            && Moment::now() < Moment::from_bits(self.certain_until.load(Ordering::Acquire))
    }

    /// Its lease is certain until then.
    pub fn set_certain_until(&self, certain_until: Moment) {
        self.certain_until.store(certain_until.to_bits(), Ordering::Release);
    }

    /// Its number in its caller's environment, which alone sets and reads it.
    #[must_use]
    pub fn handle(&self) -> Option<u32> {
        Some(self.handle.load(Ordering::Relaxed)).filter(|&number| number != NO_HANDLE)
    }

    /// It has got a number.
    pub fn set_handle(&self, number: Option<u32>) {
        self.handle.store(number.unwrap_or(NO_HANDLE), Ordering::Relaxed);
    }

    /// Where in its life it is.
    #[must_use]
    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Held,
            1 => Phase::Releasing,
            2 => Phase::Unreleased,
            3 => Phase::Lost,
            _ => Phase::Over,
        }
    }

    /// Its caller asks for the release: from now on it is neither renewed nor counts as held, and a loss that nobody was
    /// told of is this release's to tell.
    #[must_use]
    pub fn ask_release(&self) -> Asked {
        if self.change(Phase::Held, Phase::Releasing) || self.change(Phase::Unreleased, Phase::Releasing) {
            return Asked::Release;
        }
        // It may have been lost between the two.
        if self.tell_loss() { Asked::Lost } else { Asked::Nothing }
    }

    /// The release has failed; it may be asked for again.
    pub fn release_failed(&self) {
        self.change(Phase::Releasing, Phase::Unreleased);
    }

    /// It is released, or found lost by the release that was asked for.
    pub fn release_ended(&self) {
        self.phase.store(Phase::Over as u8, Ordering::Release);
    }

    /// It is lost, to `taken_by` if that is known, and a letter will tell. False where that is not for a letter to tell,
    /// because a release was asked for: then nothing has changed.
    #[must_use]
    pub fn lose(&self, taken_by: Option<&str>) -> bool {
        if let Some(holder) = taken_by {
            let _ = self.taken_by.set(holder.into());
        }
        self.change(Phase::Held, Phase::Lost)
    }

    /// Whoever gets true tells the loss; everybody else leaves it at that.
    #[must_use]
    pub fn tell_loss(&self) -> bool {
        self.change(Phase::Lost, Phase::Over)
    }

    /// Who had the key when it was found lost, if that is known.
    #[must_use]
    pub fn taken_by(&self) -> Option<&str> {
        self.taken_by.get().map(|holder| &**holder)
    }

    /// True once a release was sent whose answer was lost.
    #[must_use]
    pub fn is_release_unknown(&self) -> bool {
        self.is_release_unknown.load(Ordering::Relaxed)
    }

    /// A release was sent, and its answer is lost. Known to the core's thread alone.
    pub fn set_release_unknown(&self) {
        self.is_release_unknown.store(true, Ordering::Relaxed);
    }

    fn change(&self, from: Phase, to: Phase) -> bool {
        self.phase.compare_exchange(from as u8, to as u8, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::support::reservation;

    #[test]
    fn a_loss_is_told_by_one_only() {
        let told_by_letter = reservation("a");
        assert!(told_by_letter.lose(Some("thief")));
        assert!(!told_by_letter.lose(None), "once");
        assert!(told_by_letter.tell_loss());
        assert_eq!(told_by_letter.ask_release(), Asked::Nothing);

        let told_by_release = reservation("a");
        assert!(told_by_release.lose(Some("thief")));
        assert_eq!(told_by_release.ask_release(), Asked::Lost);
        assert_eq!(told_by_release.taken_by(), Some("thief"));
        assert!(!told_by_release.tell_loss(), "the letter finds it told");
        assert_eq!(told_by_release.ask_release(), Asked::Nothing);
    }

    #[test]
    fn what_is_to_be_released_is_lost_by_nobody_else() {
        let one = reservation("a");
        assert_eq!(one.ask_release(), Asked::Release);
        assert_eq!(one.ask_release(), Asked::Nothing, "one release at a time");
        assert!(!one.lose(None) && !one.tell_loss());
        one.release_failed();
        assert!(!one.lose(None));
        assert_eq!(one.ask_release(), Asked::Release, "again");
        one.release_ended();
        assert_eq!(one.ask_release(), Asked::Nothing);
    }
}
