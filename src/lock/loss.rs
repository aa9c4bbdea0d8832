//! Ends a reservation that is lost: redis said so, or its lease is over by our clock. Each loss is told once.

use std::rc::Rc;
use std::sync::Arc;

use crate::lock::endpoint_state::{EndpointState, Held};
use crate::lock::sent::Sent;
use crate::lock::undo;
use crate::model::answer::{Caller, Event, Loss};
use crate::model::reservation::{Phase, Reservation};
use crate::time::clock::Moment;

/// Redis has said that a reservation is lost: ends it and reports an event.
pub fn lose(state: &EndpointState, id: u64, loss: Loss) {
    if let Some(held) = end_lost(state, id, &loss) {
        tell(&held.caller, loss, held.never_renews());
    }
}

/// The same without the event: the caller tells the loss. `None` if a release was asked for: that finds the loss
/// itself.
pub fn end_lost(state: &EndpointState, id: u64, loss: &Loss) -> Option<Held> {
    if !loss.reservation.lose(loss.holder.as_deref()) {
        return None;
    }
    let held = state.take(id)?;
    state.changed(loss.reservation.key());
    Some(held)
}

/// Reports a loss by an event, unless a release tells it first. `quiet`: the lease was not to be renewed, so the loss is
/// never thrown.
pub fn tell(caller: &Caller, loss: Loss, quiet: bool) {
    let reservation = Arc::clone(&loss.reservation);
    let level = reservation.settings().log_level;
    caller.report(level, Event::Lost { reservation, loss, quiet });
}

/// Ends a reservation whose loss was told elsewhere.
pub fn discard(state: &EndpointState, reservation: &Reservation) {
    if let Some(held) = state.take(reservation.id) {
        delete(state, &held);
    }
}

/// Deletes the key of a reservation that was lost, if redis has it all the same. Old connections need not be closed
/// first: a late extend finds no key to extend.
fn delete(state: &EndpointState, held: &Held) {
    let sent =
        Sent { claim: held.reservation.claim.clone(), when: Moment::now(), hand_overs: 0, origin: None };
    undo::discard_lost(state, sent, held.lease.key_end());
}

/// The lease is over by our clock, or `max_hold` is. Whatever the phase, the key is deleted: a renewal whose reply was
/// lost must not keep it alive.
pub fn run_out(state: &Rc<EndpointState>, id: u64, held_too_long: bool) {
    let Some((reservation, never_renews)) =
        state.with(id, |held| (Arc::clone(&held.reservation), held.never_renews()))
    else {
        return;
    };
    let is_lost = reservation.lose(None);
    // A release that was asked for meanwhile deletes the key. If it fails, this is called again.
    if !is_lost && reservation.phase() == Phase::Releasing {
        state.update(id, |_| {});
        return;
    }
    let Some(held) = state.take(id) else { return };
    delete(state, &held);
    let level = reservation.settings().log_level;
    let event = if is_lost {
        let loss = Loss { reservation: Arc::clone(&reservation), holder: None };
        Event::Lost { reservation, loss, quiet: never_renews && !held_too_long }
    } else {
        Event::Lapsed { reservation }
    };
    held.caller.report(level, event);
}
