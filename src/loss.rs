//! Ends a reservation that is lost: redis says so, or its time is over by our clock. Each loss is told once.

use std::rc::Rc;
use std::sync::Arc;

use crate::client::Client;
use crate::clock::Moment;
use crate::holding::{Holding, Phase};
use crate::outlet::{Event, Loss};
use crate::settlement::{self, Sent};

/// True while a reservation is kept and no release of it was asked for.
#[must_use]
pub fn is_held(client: &Client, id: u64) -> bool {
    client.with(id, |reservation| reservation.holding.phase() == Phase::Held).unwrap_or(false)
}

/// Redis has said that a reservation is not ours any more.
pub fn lose(client: &Client, id: u64, loss: Loss) {
    // A release that is under way finds out by itself, and tells it.
    if !is_held(client, id) {
        return;
    }
    let Some(reservation) = client.take(id) else {
        return;
    };
    reservation.holding.enter(Phase::Lost);
    let holding = Arc::clone(&reservation.holding);
    let level = holding.settings().log_level;
    reservation.caller.report(level, Event::Lost { holding, loss, quiet: false });
    client.changed(reservation.holding.key());
}

/// A reservation's time is over by our clock, or it was held for as long as it may be.
pub fn run_out(client: &Rc<Client>, id: u64, held_too_long: bool) {
    let Some(reservation) = client.take(id) else {
        return;
    };
    let holding = Arc::clone(&reservation.holding);
    let level = holding.settings().log_level;
    let phase = holding.phase();
    if phase != Phase::Held {
        let unknown = phase == Phase::ReleaseUnknown;
        holding.enter(if unknown { Phase::LapsedAfterRelease } else { Phase::Lapsed });
        reservation.caller.report(level, Event::Lapsed { holding });
        return;
    }
    let quiet = reservation.never_renews() && !held_too_long;
    holding.enter(if quiet { Phase::Lapsed } else { Phase::Lost });
    let loss = Loss { holding: Arc::clone(&holding), holder: None };
    // A renewal whose answer was lost must not keep a key alive that was told lost.
    settlement::discard(client, sent_of(&holding));
    reservation.caller.report(level, Event::Lost { holding, loss, quiet });
}

/// What is to be deleted. No connection needs to be killed for it: an extend that arrives late finds nothing.
fn sent_of(holding: &Holding) -> Sent {
    Sent { claim: holding.claim.clone(), when: Moment::now(), hand_overs: 0, origin: None }
}
