//! What the thread that renews a reservation and the thread whose caller holds it both see of it.

use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

use crate::claim::Claim;
use crate::clock::Moment;
use crate::settings::Settings;

/// A reservation that was acquired. Made by the core, read at any moment by its caller's thread.
#[derive(Debug)]
pub struct Holding {
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
}

const NO_HANDLE: u32 = u32::MAX;

/// Where in its life a reservation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// Acquired and, as far as is known, still there.
    Held = 0,
    /// Its caller has asked for the release, which has not succeeded yet.
    Releasing = 1,
    /// A release was sent and its answer lost: whether the key was deleted is unknown.
    ReleaseUnknown = 2,
    /// Its time ran out and nobody was told yet: the next release tells.
    Lapsed = 3,
    /// As `Lapsed`, after a release whose answer was lost: the next release counts as done.
    LapsedAfterRelease = 4,
    /// Lost, and its caller's environment has not been told yet.
    Lost = 5,
    /// Released, or lost and told.
    Over = 6,
}

impl Holding {
    /// A reservation that is certain until `certain_until`.
    #[must_use]
    pub fn new(id: u64, claim: Claim, certain_until: Moment) -> Self {
        Self {
            id,
            claim,
            certain_until: AtomicU64::new(certain_until.to_bits()),
            handle: AtomicU32::new(NO_HANDLE),
            phase: AtomicU8::new(Phase::Held as u8),
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

    /// A renewal has succeeded.
    pub fn extend(&self, certain_until: Moment) {
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
            2 => Phase::ReleaseUnknown,
            3 => Phase::Lapsed,
            4 => Phase::LapsedAfterRelease,
            5 => Phase::Lost,
            _ => Phase::Over,
        }
    }

    /// Moves on to `phase`.
    pub fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Release);
    }

    /// Its caller asks for the release: from now on it does not count as held, whatever the core is doing with it.
    /// A reservation that is over or has lapsed stays so.
    pub fn give_up(&self) {
        let _ = self.phase.compare_exchange(
            Phase::Held as u8,
            Phase::Releasing as u8,
            Ordering::AcqRel,
            Ordering::Acquire,
        );
    }

    /// True once it lapsed without anybody having been told.
    #[must_use]
    pub fn has_lapsed(&self) -> bool {
        matches!(self.phase(), Phase::Lapsed | Phase::LapsedAfterRelease)
    }
}
