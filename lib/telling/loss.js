// A lease is gone: the line, the signal, and who is told. A loss is told once: to the `lost` listeners, else thrown, else
// (where a subclass renews in its own way, or the lease was never meant to be renewed) kept for whoever asks next.
'use strict';

const { EventEmitter } = require('events');
const { later_in, rethrow, run_in } = require('../calls/call');
const { classes, make_error } = require('../errors');
const log = require('./log');
const { has_own_renewal, is_overridden } = require('../calls/overridden');
const { next_tick } = require('../timers');

// Losses that reached somebody; the same error may come by again in the promise of a subclass's method.
const told = new WeakSet();

/** A loss that the native side found: a release() that is called before it is told tells it instead. */
function found(instance, state, lease, error, quiet) {
  state.keep_untold(lease.key, error);
  // The line and the signal run the caller's code, which may release. So may the listener of a loss that came with this one.
  record(instance, state, lease, error);
  if (lease.releasing || state.untold_of(lease.key) !== error) return;
  state.take_untold([lease.key]);
  tell(instance, state, lease, error, quiet);
}

/** Everything but the telling. The key may have been taken anew since: then what is held now is not touched. */
function record(instance, state, lease, error) {
  const { key } = lease;
  const val = state.value_of(lease);
  const holder = error.key === key && error.holder !== undefined ? error.holder : null;
  log.error(instance, 'reservation-lost', { key, val, holder });
  if (state.get(key) === lease) state.lose(instance, lease, error);
}

/** Tells a loss that no callback tells. */
function tell(instance, state, lease, error, quiet) {
  const { scope, key } = lease;
  if (announce(instance, scope, error)) return;
  if ((quiet && !was_to_be_renewed(instance, state)) || has_own_renewal(instance)) {
    state.keep_untold(key, error);
    // The subclass's own renewal would have found it: let it, now that its timer may have stopped.
    // A renewal that was under way may tell it before that.
    if (has_own_renewal(instance)) {
      later_in(scope, () => {
        if (state.untold_of(key) !== undefined) beat(instance, state, lease);
      });
    }
    return;
  }
  throw_in(scope, state, [key], error);
}

/** Nobody renews it natively where _set_expiration is the caller's own; that is not to say that it was to end. */
function was_to_be_renewed(instance, { settings }) {
  return is_overridden(instance, '_set_expiration') && settings.heartbeat < settings.ttl * 1000;
}

/** Throws a loss in a tick of its own. A release() that is called before that tells it instead. */
function throw_in(scope, state, keys, error) {
  for (const key of keys) state.keep_untold(key, error);
  run_in(scope, () => next_tick(throw_untold, state, keys, error));
}

function throw_untold(state, keys, error) {
  if (told.has(error)) return;
  state.take_untold(keys.filter((key) => state.untold_of(key) === error));
  told.add(error);
  rethrow(error);
}

/** The losses among `keys` (all for null) that nobody was told of, for the call whose answer is to tell them. */
function take_untold(state, keys) {
  const taken = state.take_untold(keys);
  for (const error of taken.values()) told.add(error);
  return taken;
}

/** To the listeners, in the context `scope`. Returns whether there are any, or it was told before. */
function announce(instance, scope, error) {
  if (told.has(error)) return true;
  // By the prototype: a subclass may have a method of this name for something else.
  if (EventEmitter.prototype.listenerCount.call(instance, 'lost') === 0) return false;
  told.add(error);
  run_in(scope, () => {
    if (typeof instance.emit === 'function') instance.emit('lost', error);
    else EventEmitter.prototype.emit.call(instance, 'lost', error);
  });
  return true;
}

/** One beat of the timer that serves subclasses which renew in their own way. */
function beat(instance, state, lease) {
  let returned;
  state.beating = true;
  try {
    returned = instance._ensure_reservation();
  } finally {
    state.beating = false;
  }
  if (returned == null || typeof returned.then !== 'function') return;
  returned.then(undefined, (error) => {
    // A renewal that failed is tried again at the next beat; the subclass's own failures are its own.
    if (!(error instanceof classes.ReservationError)) throw error;
    tell_of_beat(instance, state, lease.scope, error);
  });
}

/** A loss that a subclass's beat found and has handed to no callback: to the listeners, or kept for whoever asks next. */
function tell_of_beat(instance, state, scope, error) {
  if (!(error instanceof classes.ReservationLostError) || announce(instance, scope, error)) return;
  const keys = error.lost || [error.key];
  if (has_own_renewal(instance)) for (const key of keys) state.keep_untold(key, error);
  else throw_in(scope, state, keys, error);
}

/** Several losses as the one error that a callback gets: the first one's words, everybody's keys. */
function combined(errors, keys, details) {
  const [first] = errors;
  const { key, val, holder } = first;
  return make_error(
    'ERR_RESERVATION_LOST',
    first.message,
    Object.assign({ key, val, holder, lost: keys }, details),
  );
}

module.exports = { found, record, take_untold, tell_of_beat, beat, combined };
