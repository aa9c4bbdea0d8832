//! Watches the keys of leases: the server reports a change (CLIENT TRACKING), the key is looked at, and if it is not as it
//! should be, the lease is renewed at once. The reply to that finds the loss.
//!
//! A report ends the watch, and so does our own renewal, which is a change like any other. So a look follows each renewal,
//! and each report that no renewal explains. A look is a GET behind CLIENT CACHING YES, which begins the watch anew. A report
//! may be read before the reply to the GET that it came after; so if there was one meanwhile, another look follows.
//!
//! Only the renewal's reply judges. A look may be answered by a server that was demoted, from an outdated copy.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use redis::Value;

use crate::connection::pipeline::Pipeline;
use crate::connection::reply::NoReply;
use crate::connection::send_queue::Lane;
use crate::lock::endpoint_state::{EndpointState, Held};
use crate::lock::watched::MAX_LOOKS_A_SECOND;
use crate::model::claim::Claim;
use crate::model::refusal::{is_wrong_type, words_of};
use crate::model::reservation::Phase;
use crate::protocol::command;
use crate::time::backoff::{jittered, spread};
use crate::time::clock::Moment;

/// A look that cannot be made now is put off for about so long, if there are few.
const LATER: Duration = Duration::from_secs(5);

/// When all keys are looked at, so many are at once,
const PART: u32 = 100;

/// and the next so many after this.
const PART_INTERVAL: Duration = Duration::from_millis(10);

/// Why a key is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The server has reported a change, or the lease has become old enough.
    Report,
    /// The lease was renewed.
    Renewal,
}

/// What a look has found.
enum Seen {
    /// The key has our value, for as long as we count on.
    Ours,
    /// It has another value, or ends sooner, or not at all.
    Changed,
    /// The server has refused to say it.
    Refused,
    /// There was no reply.
    Nothing,
}

/// Looks at the key of a reservation, and has its changes reported from then on.
pub fn look(state: &Rc<EndpointState>, id: u64, reason: Reason) {
    let pipeline = state.supervisor.current().filter(|pipeline| pipeline.tells_changes.get());
    // It is taken up again when there are fewer renewals.
    if pipeline.is_some() && state.watches.is_off() {
        return put_off(state, id);
    }
    let mut claim = None;
    state.update(id, |held| {
        held.watch.next = Moment::NEVER;
        if pipeline.is_some() && held.reservation.phase() == Phase::Held {
            held.watch.look(Moment::now(), reason == Reason::Renewal);
            claim = Some(held.reservation.claim.clone());
        } else {
            held.watch.is_looking = false;
        }
    });
    if let (Some(pipeline), Some(claim)) = (pipeline, claim) {
        state.watches.insert(claim.key(), id);
        send(state, &pipeline, id, claim, reason);
    }
}

/// Looks at a key in some seconds. The more leases there are, the later.
fn put_off(state: &EndpointState, id: u64) {
    let pause = spread(LATER, state.count(), MAX_LOOKS_A_SECOND);
    state.update(id, |held| {
        held.watch.is_looking = false;
        held.watch.next = Moment::now().after(pause);
    });
}

/// Looks at the keys of leases that were renewed, and at those whose time has come.
pub fn look_at_due(state: &Rc<EndpointState>, ids: &[u64]) {
    for id in state.watches.renewed.take() {
        look(state, id, Reason::Renewal);
    }
    for &id in ids {
        if state.watches.may_look() {
            look(state, id, Reason::Report);
        } else {
            put_off(state, id);
        }
    }
}

fn send(state: &Rc<EndpointState>, pipeline: &Rc<Pipeline>, id: u64, claim: Claim, reason: Reason) {
    let (limit, key) = (claim.settings.command_timeout, claim.key().to_owned());
    let (this, connection) = (Rc::clone(state), Rc::downgrade(pipeline));
    pipeline.send_then(Lane::Regular, command::watch_next(), limit, move |reply| {
        if let (Err(NoReply::Refused(error)), Some(pipeline)) = (reply, connection.upgrade()) {
            this.supervisor.set_why_no_pushes(&pipeline, words_of(&error));
        }
    });
    let state = Rc::clone(state);
    if reason == Reason::Renewal {
        pipeline.send_then(Lane::Joined, command::read(&key), limit, move |reply| {
            saw(&state, id, reason, seen(&claim, reply));
        });
        return;
    }
    // Somebody may have shortened its ttl as well.
    let value = Rc::new(Cell::new(None));
    let found = Rc::clone(&value);
    pipeline.send_then(Lane::Joined, command::read(&key), limit, move |reply| found.set(Some(reply)));
    pipeline.send_then(Lane::Joined, command::time_left(&key), limit, move |left| {
        let seen = match seen(&claim, value.take().unwrap_or(Err(NoReply::Dropped))) {
            Seen::Ours if ends_early(&state, id, left.as_ref().ok()) => Seen::Changed,
            seen => seen,
        };
        saw(&state, id, reason, seen);
    });
}

fn seen(claim: &Claim, reply: Result<Value, NoReply>) -> Seen {
    match reply {
        Ok(Value::BulkString(bytes)) if bytes == claim.value().as_bytes() => Seen::Ours,
        Ok(_) => Seen::Changed,
        Err(NoReply::Refused(error)) if is_wrong_type(&error) => Seen::Changed,
        Err(NoReply::Refused(_)) => Seen::Refused,
        Err(_) => Seen::Nothing,
    }
}

/// True if the key ends before our lease, or has no end.
fn ends_early(state: &EndpointState, id: u64, left: Option<&Value>) -> bool {
    let Some(left) = left else { return false };
    let end = command::duration_of(left).map(|left| Moment::now().after(left));
    state.with(id, |held| end.is_none_or(|end| end < held.lease.certain_until())).unwrap_or_default()
}

/// A look has its reply, or will have none.
fn saw(state: &Rc<EndpointState>, id: u64, reason: Reason, seen: Seen) {
    state.update(id, |held| {
        held.watch.is_looking = false;
        if held.reservation.phase() != Phase::Held {
            return;
        }
        match seen {
            Seen::Ours if held.watch.is_outdated => held.watch.next = soon(held),
            Seen::Nothing if held.watch.is_outdated => held.watch.next = Moment::now().after(jittered(LATER)),
            // A refusal right behind a renewal that was not refused: there is no watch until the next one.
            Seen::Ours | Seen::Nothing => {}
            Seen::Refused if reason == Reason::Renewal => {}
            Seen::Changed | Seen::Refused => {
                // Where reads and renewals disagree, as behind a proxy that reads from replicas, this goes on.
                if reason == Reason::Renewal {
                    held.watch.follow(Moment::now());
                }
                renew_soon(held);
            }
        }
    });
}

/// Has a lease renewed, whose reply finds out what is wrong. One in flight may have been sent before that.
fn renew_soon(held: &mut Held) {
    let when = soon(held);
    held.lease.hasten(when);
}

fn soon(held: &Held) -> Moment {
    Moment::now().after(held.watch.pause())
}

/// A renewal is sent: its look will follow it.
pub fn renewing(held: &mut Held) {
    held.watch.renewals = held.watch.renewals.saturating_add(1);
}

/// A renewal has its reply, or will have none. The look is sent by the heartbeat's next turn: by then the server's report of
/// that renewal is read, which comes right behind the reply and would call for another look.
pub fn renewed(state: &EndpointState, id: u64, has_succeeded: bool) {
    state.update(id, |held| {
        held.watch.renewals = held.watch.renewals.saturating_sub(1);
        if held.watch.is_looking || held.watch.is_young(Moment::now()) {
            return;
        }
        if has_succeeded {
            held.watch.is_looking = true;
            state.watches.renewed.borrow_mut().push(id);
            state.earlier.notify_one();
        } else if held.watch.is_outdated && held.watch.next == Moment::NEVER {
            // It was to explain that report.
            held.watch.next = soon(held);
        }
    });
}

/// The server has reported a change of a key.
pub fn changed(state: &Rc<EndpointState>, key: &str) {
    for id in state.watches.of(key) {
        let (mut is_due, mut is_late) = (false, false);
        state.update(id, |held| {
            held.watch.is_outdated = true;
            if held.watch.is_looking || held.watch.renewals > 0 || held.watch.next != Moment::NEVER {
                return;
            }
            if !held.watch.pause().is_zero() {
                held.watch.next = soon(held);
            } else if state.watches.may_look() {
                is_due = true;
            } else {
                is_late = true;
            }
        });
        if is_due {
            look(state, id, Reason::Report);
        } else if is_late {
            put_off(state, id);
        }
    }
}

/// Every key may have changed. Once a second at most.
pub fn all_changed(state: &Rc<EndpointState>) {
    let this = Rc::downgrade(state);
    state.watches.pace.occasion(move || {
        let Some(state) = this.upgrade() else { return };
        look_at_all(&state, state.watches.all());
    });
}

/// There is a new connection. What is renewed has its look behind its renewal.
pub fn came_up(state: &Rc<EndpointState>) {
    // Looks of the last connection have no reply to come.
    for id in state.watches.all() {
        state.update(id, |held| held.watch.is_looking = false);
    }
    let now = Moment::now();
    let found = state.find(|held| held.never_renews() && !held.watch.is_young(now));
    look_at_all(state, found.into_iter().map(|(id, _)| id).collect());
}

fn look_at_all(state: &EndpointState, ids: Vec<u64>) {
    let now = Moment::now();
    for (position, id) in ids.into_iter().enumerate() {
        let position = u32::try_from(position).unwrap_or(u32::MAX);
        state.update(id, |held| {
            held.watch.is_outdated = true;
            if !held.watch.is_looking && held.watch.renewals == 0 {
                held.watch.next = now.after(PART_INTERVAL * (position / PART));
            }
        });
    }
}
