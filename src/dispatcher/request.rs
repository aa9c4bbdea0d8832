//! The requests that the core serves.

use std::sync::Arc;
use std::time::Duration;

use crate::model::answer::{Loss, Ticket};
use crate::model::endpoint::Endpoint;
use crate::model::reservation::{ReleaseAction, Reservation};
use crate::model::settings::Settings;

/// One request to the core.
pub enum Request {
    /// Try once to take a lock.
    Lock {
        /// Answers the call.
        ticket: Ticket,
        /// The settings of the call.
        settings: Arc<Settings>,
        /// The resource to lock.
        resource: String,
    },
    /// Wait for a lock.
    Wait {
        /// Answers the call.
        ticket: Ticket,
        /// The number of the instance that called.
        instance: u32,
        /// The settings of the call.
        settings: Arc<Settings>,
        /// The resource to lock.
        resource: String,
        /// The longest wait; `None` is for ever.
        timeout: Option<Duration>,
    },
    /// Cancel a wait.
    CancelWait {
        /// The settings that it was called with.
        settings: Arc<Settings>,
        /// The resource that it waits for.
        resource: String,
        /// The environment of the call.
        environment: u64,
        /// The number of the waiting call.
        call: u64,
    },
    /// Release reservations.
    Release {
        /// Answers the call.
        ticket: Ticket,
        /// The reservations that this request releases.
        reservations: Vec<Arc<Reservation>>,
        /// Earlier losses that this release tells.
        losses: Vec<Loss>,
    },
    /// Renew reservations now.
    Renew {
        /// Answers the call.
        ticket: Ticket,
        /// The reservations.
        reservations: Vec<Arc<Reservation>>,
        /// The ttl to extend them to.
        ttl: Duration,
    },
    /// End a reservation that is lost and told, and delete its key if redis has it all the same.
    Forget {
        /// The reservation.
        reservation: Arc<Reservation>,
    },
    /// Close an endpoint's connections, unless they are needed.
    Disconnect {
        /// Answers the call.
        ticket: Ticket,
        /// The endpoint.
        endpoint: Arc<Endpoint>,
    },
    /// An environment has ended: stop renewing its reservations, and remove its waiters.
    Leave {
        /// Its number.
        environment: u64,
    },
}

impl Request {
    /// A release. Called on the caller's thread: here it is decided which request releases each reservation, and who
    /// tells of a loss.
    #[must_use]
    pub fn release(ticket: Ticket, asked: Vec<Arc<Reservation>>) -> Self {
        let (mut reservations, mut losses) = (Vec::with_capacity(asked.len()), Vec::new());
        for reservation in asked {
            match reservation.ask_release() {
                ReleaseAction::Release => reservations.push(reservation),
                ReleaseAction::Lost => losses.push(Loss::of(reservation)),
                ReleaseAction::Nothing => {}
            }
        }
        Self::Release { ticket, reservations, losses }
    }

    /// The caller of this reservation has acquired its key again, by the value `newer`: redis no longer had the older
    /// value, so that is lost. Called on the caller's thread. Returns the loss if that thread is to tell it; `None` if
    /// a release tells it, or it was told.
    #[must_use]
    pub fn supersede(reservation: &Arc<Reservation>, newer: &str) -> Option<(Self, Loss)> {
        let _ = reservation.lose(Some(newer));
        let reservation = Arc::clone(reservation);
        reservation
            .tell_loss()
            .then(|| (Self::Forget { reservation: Arc::clone(&reservation) }, Loss::of(reservation)))
    }
}
