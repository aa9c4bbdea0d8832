//! Ends a reservation that is lost: redis says so, or its time is over by our clock. Each loss is told once.

use std::rc::Rc;
use std::sync::Arc;

use crate::lock::endpoint_state::{Client, Reservation};
use crate::lock::sent::Sent;
use crate::lock::undo;
use crate::model::answer::{Caller, Event, Loss};
use crate::model::reservation::Phase;
use crate::time::clock::Moment;

/// Redis has said that a reservation is not ours any more: an event tells.
pub fn lose(client: &Client, id: u64, loss: Loss) {
    if let Some(reservation) = end_lost(client, id, &loss) {
        tell(&reservation.caller, loss);
    }
}

/// The same, and whoever called tells. `None` where that is not for them: a release that was asked for finds out by itself.
pub fn end_lost(client: &Client, id: u64, loss: &Loss) -> Option<Reservation> {
    if !loss.holding.lose(loss.holder.as_deref()) {
        return None;
    }
    let reservation = client.take(id)?;
    client.changed(loss.holding.key());
    Some(reservation)
}

/// A loss is told by an event, unless a release tells it first.
pub fn tell(caller: &Caller, loss: Loss) {
    let holding = Arc::clone(&loss.holding);
    let level = holding.settings().log_level;
    caller.report(level, Event::Lost { holding, loss, quiet: false });
}

/// A reservation's time is over by our clock, or it was held for as long as it may be. In whatever phase it is, a renewal
/// whose answer was lost must not keep its key alive.
pub fn run_out(client: &Rc<Client>, id: u64, held_too_long: bool) {
    let Some((holding, never_renews)) =
        client.with(id, |reservation| (Arc::clone(&reservation.holding), reservation.never_renews()))
    else {
        return;
    };
    let is_lost = holding.lose(None);
    // A release that was asked for this moment deletes the key, or fails and leaves it to the next time.
    if !is_lost && holding.phase() == Phase::Releasing {
        client.update(id, |_| {});
        return;
    }
    let Some(reservation) = client.take(id) else { return };
    // No connection needs to be closed for it: an extend that arrives late finds nothing.
    let sent = Sent { claim: holding.claim.clone(), when: Moment::now(), hand_overs: 0, origin: None };
    undo::discard_lost(client, sent, reservation.lease.key_end());
    let level = holding.settings().log_level;
    let event = if is_lost {
        let loss = Loss { holding: Arc::clone(&holding), holder: None };
        Event::Lost { holding, loss, quiet: never_renews && !held_too_long }
    } else {
        Event::Lapsed { holding }
    };
    reservation.caller.report(level, event);
}
