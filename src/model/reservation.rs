//! What two threads share of a reservation: the core, which renews it, and the caller's thread, which reads it.

use std::sync::OnceLock;
use std::sync::atomic::Ordering;

use crate::model::claim::Claim;
use crate::model::settings::Settings;
use crate::runtime::sync::{AtomicBool, AtomicU8, AtomicU32, AtomicU64};
use crate::time::clock::Moment;

/// A reservation. The core makes it; its caller's thread may read it at any moment.
#[derive(Debug)]
pub struct Reservation {
    /// Its number in the core's table.
    pub id: u64,
    /// The key in redis, and the value it was set to.
    pub claim: Claim,
    /// Until when the lease is certain, as [`Moment::to_bits`]. The caller's thread reads it directly, so the answer is
    /// right even while the event loop that would be told of a loss is blocked.
    certain_until: AtomicU64,
    /// Its number in its caller's environment; [`NO_HANDLE`] if it has none.
    handle: AtomicU32,
    phase: AtomicU8,
    /// A release was sent and its reply lost: if the key is gone, we may have deleted it ourselves.
    is_release_unknown: AtomicBool,
    /// Who held the key when redis said that it was lost. Set before the phase becomes [`Phase::Lost`].
    taken_by: OnceLock<Box<str>>,
}

const NO_HANDLE: u32 = u32::MAX;

/// Where a reservation is in its life. Both threads use this one record. Each change is a compare-exchange: the thread
/// that makes it knows the phase before, and if two try to end a reservation, one does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// Acquired, and held as far as we know. Only in this phase is it renewed.
    Held = 0,
    /// Its caller has asked for the release; the answer is pending.
    Releasing = 1,
    /// A release has failed. It may be retried.
    Unreleased = 2,
    /// Lost, and the letter that tells so is on its way.
    Lost = 3,
    /// Released, or lost and told.
    Over = 4,
}

/// What a release has to do with a reservation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReleaseAction {
    /// Release it. No other request does.
    Release,
    /// Tell its loss: it was lost before.
    Lost,
    /// Nothing: it is over, or another release of it is pending.
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

    /// The settings that it was acquired with.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.claim.settings
    }

    /// True only while the lease is certain at this instant.
    #[must_use]
    pub fn is_certain(&self) -> bool {
        self.phase() == Phase::Held
            && Moment::now() < Moment::from_bits(self.certain_until.load(Ordering::Acquire))
    }

    /// Until when the lease is certain.
    #[cfg(test)]
    pub fn certain_until(&self) -> Moment {
        Moment::from_bits(self.certain_until.load(Ordering::Acquire))
    }

    /// Sets until when the lease is certain.
    pub fn set_certain_until(&self, certain_until: Moment) {
        self.certain_until.store(certain_until.to_bits(), Ordering::Release);
    }

    /// Its number in its caller's environment. Only that environment sets and reads it.
    #[must_use]
    pub fn handle(&self) -> Option<u32> {
        Some(self.handle.load(Ordering::Relaxed)).filter(|&number| number != NO_HANDLE)
    }

    /// Sets its number in its caller's environment.
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

    /// Its caller asks for the release. From now on the reservation does not count as held and is not renewed. If its
    /// loss has not been told yet, this release tells it.
    #[must_use]
    pub fn ask_release(&self) -> ReleaseAction {
        if self.change(Phase::Held, Phase::Releasing) || self.change(Phase::Unreleased, Phase::Releasing) {
            return ReleaseAction::Release;
        }
        // The core may have lost it between the two checks.
        if self.tell_loss() { ReleaseAction::Lost } else { ReleaseAction::Nothing }
    }

    /// The release has failed and may be retried.
    pub fn release_failed(&self) {
        self.change(Phase::Releasing, Phase::Unreleased);
    }

    /// It was released, or its release found it lost.
    pub fn release_ended(&self) {
        self.phase.store(Phase::Over as u8, Ordering::Release);
    }

    /// Marks it as lost, to `taken_by` if that is known; a letter tells so. False if a release was asked for: then the
    /// release tells the loss, and nothing changes here.
    #[must_use]
    pub fn lose(&self, taken_by: Option<&str>) -> bool {
        if let Some(holder) = taken_by {
            let _ = self.taken_by.set(holder.into());
        }
        self.change(Phase::Held, Phase::Lost)
    }

    /// True for one caller only: that one tells the loss.
    #[must_use]
    pub fn tell_loss(&self) -> bool {
        self.change(Phase::Lost, Phase::Over)
    }

    /// Who held the key when it was found lost, if that is known.
    #[must_use]
    pub fn taken_by(&self) -> Option<&str> {
        self.taken_by.get().map(|holder| &**holder)
    }

    /// True if a release was sent and its reply was lost.
    #[must_use]
    pub fn is_release_unknown(&self) -> bool {
        self.is_release_unknown.load(Ordering::Relaxed)
    }

    /// A release was sent and its reply is lost. Only the core's thread uses this.
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
    fn a_loss_is_told_once() {
        let told_by_letter = reservation("a");
        assert!(told_by_letter.lose(Some("thief")));
        assert!(!told_by_letter.lose(None), "once");
        assert!(told_by_letter.tell_loss());
        assert_eq!(told_by_letter.ask_release(), ReleaseAction::Nothing);

        let told_by_release = reservation("a");
        assert!(told_by_release.lose(Some("thief")));
        assert_eq!(told_by_release.ask_release(), ReleaseAction::Lost);
        assert_eq!(told_by_release.taken_by(), Some("thief"));
        assert!(!told_by_release.tell_loss(), "the letter finds it told");
        assert_eq!(told_by_release.ask_release(), ReleaseAction::Nothing);
    }

    #[test]
    fn a_reservation_that_is_being_released_cannot_be_lost() {
        let one = reservation("a");
        assert_eq!(one.ask_release(), ReleaseAction::Release);
        assert_eq!(one.ask_release(), ReleaseAction::Nothing, "one release at a time");
        assert!(!one.lose(None) && !one.tell_loss());
        one.release_failed();
        assert!(!one.lose(None));
        assert_eq!(one.ask_release(), ReleaseAction::Release, "again");
        one.release_ended();
        assert_eq!(one.ask_release(), ReleaseAction::Nothing);
    }
}
