// What the native side tells of its own accord: renewals, outages, attempts of waiters, and losses. Each becomes a log
// line; a loss is also told to whoever should hear of it, exactly once.
'use strict';

const { run_guarded } = require('./context');
const { make_error, from_native } = require('./errors');
const log = require('./log');
const loss = require('./loss');

/** The function that the native object calls with (event, fields), on the JS thread. */
function listener_for(instance, state) {
  return function listener(event, fields) {
    const handler = HANDLERS[event];
    if (handler === undefined) return undefined;
    return run_guarded(handler, instance, state, fields);
  };
}

const HANDLERS = {
  'reservation-extended'(instance, state, { key, duration, val }) {
    in_context(state, key, log.info, instance, 'reservation-extended', { key, duration, val });
  },

  'expire-set-failed'(instance, state, { err, key }) {
    in_context(state, key, log.error, instance, 'expire-set-failed', { err: from_native(err), key });
  },

  'redis-error'(instance, _state, { host, port, err }) {
    log.error(instance, 'redis-error', { host, port, err: from_native(err) });
  },

  // The server does not say when a key changes: a wait there is as quick as its poll.
  'waiting-by-polling'(instance, _state, { endpoint, reason }) {
    log.warn(instance, 'waiting-by-polling', { endpoint, reason });
  },

  'log-lines-dropped'(instance, _state, { count }) {
    log.warn(instance, 'log-lines-dropped', { count });
  },

  // A waiter tried and did not get it. 0.4.0 waited by calling lock, and this is what that printed.
  'reservation-attempt'(instance, state, { resource: name, key, holder }) {
    const waits = state.waits === null ? undefined : state.waits.get(name);
    const wait = waits === undefined ? undefined : waits.values().next().value;
    const resource = wait === undefined ? name : wait.resource;
    const lines = () => {
      if (holder != null) log.info(instance, 'reservation-exists', { key, resource, val: holder });
      log.info(instance, 'reservation-attempted', { resource, lock_status: false, key });
      log.info(instance, 'reservation-attempt', { resource, lock_status: false });
    };
    if (wait === undefined) lines();
    else wait.call.run(lines);
  },

  /** Returns whether the loss was told: the native side remembers a quiet one for release() if it was not. */
  'reservation-lost'(instance, state, { key, val, holder, message, quiet }) {
    const lease = state.holding.leases.get(key);
    // A release or a renewal that the caller asked for found it first, and has told it.
    if (lease === undefined || lease.val !== val) return true;
    const error = make_error('ERR_RESERVATION_LOST', message, { key, val, holder });
    loss.record(instance, state, lease, error);
    return loss.tell(instance, state, lease, error, quiet === true);
  },
};

function in_context(state, key, code, ...parameters) {
  const lease = state.holding.leases.get(key);
  if (lease === undefined) code(...parameters);
  else lease.call.run(code, ...parameters);
}

module.exports = { listener_for };
