// Losses: the log line, the signal, and the report to the caller. Each loss is reported once: to the `lost` listeners; else
// thrown; else, if renewal is overridden or was switched off, by the next call that can report it.
'use strict';

const { EventEmitter } = require('events');
const { later_in, rethrow, run_in } = require('../calls/call');
const { classes, make_error } = require('../errors');
const log = require('./log');
const { has_own_renewal, is_overridden } = require('../calls/overridden');
const { next_tick } = require('../timers');

// Losses that were reported. The same error may come back in the promise of a subclass's method.
const told = new WeakSet();

/** The native side found a loss. A release() that is called before the report reports it instead. */
function found(instance, state, lease, error, quiet) {
  state.keep_untold(lease.key, error);
  // Log and signal run the caller's code, which may call release(). So may the listener of an earlier loss in this delivery.
  record(instance, state, lease, error);
  if (lease.releasing || state.untold_of(lease.key) !== error) return;
  state.take_untold([lease.key]);
  tell(instance, state, lease, error, quiet);
}

/**
 * The instance has acquired a key again, with the value `newer`, while it held it: the older lease is lost. The newer one is
 * not added yet.
 */
function superseded(instance, state, lease, newer) {
  const fields = state.native.supersede(lease.handle, newer);
  // Null: a pending release tells it, or it was told.
  if (fields !== null) found(instance, state, lease, error_of(lease, fields), fields.quiet === true);
}

/** The error for a loss that the native side has found. If its fields could not be made JavaScript values, few are there. */
function error_of(lease, fields) {
  const { key = lease.key, val, holder, message = `Worker lost reservation for ${key}` } = fields;
  return make_error('ERR_RESERVATION_LOST', message, { key, val, holder });
}

/** Logs a loss and removes the lease, without the report. A newer lease of the same key is not touched. */
function record(instance, state, lease, error) {
  const { key } = lease;
  const val = state.value_of(lease);
  const holder = error.key === key && error.holder !== undefined ? error.holder : null;
  log.error(instance, 'reservation-lost', { key, val, holder });
  if (state.get(key) === lease) state.lose(instance, lease, error);
}

/** Reports a loss that no callback reports. */
function tell(instance, state, lease, error, quiet) {
  const { scope, key } = lease;
  if (announce(instance, scope, error)) return;
  if ((quiet && !was_to_be_renewed(instance, state)) || has_own_renewal(instance)) {
    state.keep_untold(key, error);
    // The subclass's renewal is meant to find it, but its timer may have stopped: call it once more, unless a pending renewal
    // has reported the loss by then.
    if (has_own_renewal(instance)) {
      later_in(scope, () => {
        if (state.untold_of(key) !== undefined) beat(instance, state, lease);
      });
    }
    return;
  }
  throw_in(scope, state, [key], error);
}

/** Whether an overridden _set_expiration was to renew the lease. Natively nobody does then, yet its end is a loss. */
function was_to_be_renewed(instance, { settings }) {
  return is_overridden(instance, '_set_expiration') && settings.heartbeat < settings.ttl * 1000;
}

/** Throws a loss in a tick of its own. A release() that is called before that reports it instead. */
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

/** Takes the unreported losses of `keys` (null: of all), for the call whose answer reports them. */
function take_untold(state, keys) {
  const taken = state.take_untold(keys);
  for (const error of taken.values()) told.add(error);
  return taken;
}

/** Emits `lost` in the context `scope`. Returns true if there are listeners, or the loss was reported before. */
function announce(instance, scope, error) {
  if (told.has(error)) return true;
  // Of the prototype: a subclass may use the name listenerCount for something else.
  if (EventEmitter.prototype.listenerCount.call(instance, 'lost') === 0) return false;
  told.add(error);
  run_in(scope, () => {
    if (typeof instance.emit === 'function') instance.emit('lost', error);
    else EventEmitter.prototype.emit.call(instance, 'lost', error);
  });
  return true;
}

/** One tick of the timer for overridden renewals. */
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
    // A failed renewal is tried again at the next beat. Errors of the subclass's own are thrown.
    if (!(error instanceof classes.ReservationError)) throw error;
    tell_of_beat(instance, state, lease.scope, error);
  });
}

/** Reports a loss that a subclass's beat found and gave to no callback: to the listeners, else kept for the next call. */
function tell_of_beat(instance, state, scope, error) {
  if (!(error instanceof classes.ReservationLostError) || announce(instance, scope, error)) return;
  const keys = error.lost || [error.key];
  if (has_own_renewal(instance)) for (const key of keys) state.keep_untold(key, error);
  else throw_in(scope, state, keys, error);
}

/** Several losses as one error for a callback: the message of the first, the keys of all. */
function combined(errors, keys, details) {
  const [first] = errors;
  const { key, val, holder } = first;
  return make_error(
    'ERR_RESERVATION_LOST',
    first.message,
    Object.assign({ key, val, holder, lost: keys }, details),
  );
}

module.exports = { error_of, found, superseded, record, take_untold, tell_of_beat, beat, combined };
