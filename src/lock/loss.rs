//! Ends a reservation that is lost: redis says so, or its time is over by our clock. Each loss is told once.

use std::rc::Rc;
use std::sync::Arc;

use crate::lock::endpoint_state::{EndpointState, Held};
use crate::lock::sent::Sent;
use crate::lock::undo;
use crate::model::answer::{Caller, Event, Loss};
use crate::model::reservation::Phase;
use crate::time::clock::Moment;

/// Redis has said that a reservation is not ours any more: an event tells.
pub fn lose(state: &EndpointState, id: u64, loss: Loss) {
    if let Some(held) = end_lost(state, id, &loss) {
        tell(&held.caller, loss);
    }
}

/// The same, and whoever called tells. `None` where that is not for them: a release that was asked for finds out by itself.
pub fn end_lost(state: &EndpointState, id: u64, loss: &Loss) -> Option<Held> {
    if !loss.reservation.lose(loss.holder.as_deref()) {
        return None;
    }
    let held = state.take(id)?;
    state.changed(loss.reservation.key());
    Some(held)
}

/// A loss is told by an event, unless a release tells it first.
pub fn tell(caller: &Caller, loss: Loss) {
    let reservation = Arc::clone(&loss.reservation);
    let level = reservation.settings().log_level;
    caller.report(level, Event::Lost { reservation, loss, quiet: false });
}

/// A reservation's time is over by our clock, or it was held for as long as it may be. In whatever phase it is, a renewal
/// whose answer was lost must not keep its key alive.
pub fn run_out(state: &Rc<EndpointState>, id: u64, held_too_long: bool) {
    let Some((reservation, never_renews)) =
        state.with(id, |held| (Arc::clone(&held.reservation), held.never_renews()))
    else {
        return;
    };
    let is_lost = reservation.lose(None);
    // A release that was asked for this moment deletes the key, or fails and leaves it to the next time.
    if !is_lost && reservation.phase() == Phase::Releasing {
        state.update(id, |_| {});
        return;
    }
    let Some(held) = state.take(id) else { return };
    // No connection needs to be closed for it: an extend that arrives late finds nothing.
    let sent = Sent { claim: reservation.claim.clone(), when: Moment::now(), hand_overs: 0, origin: None };
    undo::discard_lost(state, sent, held.lease.key_end());
    let level = reservation.settings().log_level;
    let event = if is_lost {
        let loss = Loss { reservation: Arc::clone(&reservation), holder: None };
        Event::Lost { reservation, loss, quiet: never_renews && !held_too_long }
    } else {
        Event::Lapsed { reservation }
    };
    held.caller.report(level, event);
}
