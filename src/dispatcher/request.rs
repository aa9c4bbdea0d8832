//! What the core is asked to do.

use std::sync::Arc;
use std::time::Duration;

use crate::model::answer::{Loss, Ticket};
use crate::model::endpoint::Endpoint;
use crate::model::reservation::{Asked, Reservation};
use crate::model::settings::Settings;

/// What the core is asked to do.
pub enum Request {
    /// One attempt at a lock.
    Lock {
        /// Whom to answer.
        ticket: Ticket,
        /// With what.
        settings: Arc<Settings>,
        /// On what.
        resource: String,
    },
    /// Wait for a lock.
    Wait {
        /// Whom to answer.
        ticket: Ticket,
        /// Of which instance.
        instance: u32,
        /// With what.
        settings: Arc<Settings>,
        /// On what.
        resource: String,
        /// For how long; `None` is for ever.
        timeout: Option<Duration>,
    },
    /// A waiter leaves.
    CancelWait {
        /// What it waits with.
        settings: Arc<Settings>,
        /// What it waits for.
        resource: String,
        /// Its environment.
        environment: u64,
        /// Its call.
        call: u64,
    },
    /// Give these back.
    Release {
        /// Whom to answer.
        ticket: Ticket,
        /// What is this request's to release.
        reservations: Vec<Arc<Reservation>>,
        /// What was lost before, and is this release's to tell.
        losses: Vec<Loss>,
    },
    /// Renew these now.
    Renew {
        /// Whom to answer.
        ticket: Ticket,
        /// What.
        reservations: Vec<Arc<Reservation>>,
        /// For how long.
        ttl: Duration,
    },
    /// Close the connection of an endpoint, if nothing needs it.
    Disconnect {
        /// Whom to answer.
        ticket: Ticket,
        /// Which.
        endpoint: Arc<Endpoint>,
    },
    /// An environment has ended: nothing of it is renewed or waits any more.
    Leave {
        /// Which.
        environment: u64,
    },
}

impl Request {
    /// Gives these back. Called on the thread of their caller, where it is decided who ends each of them and who tells of
    /// those that are lost.
    #[must_use]
    pub fn release(ticket: Ticket, asked: Vec<Arc<Reservation>>) -> Self {
        let (mut reservations, mut losses) = (Vec::with_capacity(asked.len()), Vec::new());
        for reservation in asked {
            match reservation.ask_release() {
                Asked::Release => reservations.push(reservation),
                Asked::Lost => losses.push(Loss::of(reservation)),
                Asked::Nothing => {}
            }
        }
        Self::Release { ticket, reservations, losses }
    }
}
