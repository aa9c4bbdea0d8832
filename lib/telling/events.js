// What the native side has to say, in batches: the answers to calls, and what it tells of its own accord: renewals,
// outages, attempts of waiters, and losses. Each of these becomes a log line; a loss is also told to whoever should hear
// of it, exactly once.
'use strict';

const { any_pending, call_of, lapse, lease_of, settle } = require('../calls/pending');
const { guarded, rethrow, run_in } = require('../calls/call');
const { make_error, from_native } = require('../errors');
const log = require('./log');
const loss = require('./loss');
const { peek } = require('../leases/state');
const { next_tick, setImmediate } = require('../timers');

// The kinds of letters, as src/addon/environment.rs numbers them.
const ACQUIRED = 0;
const TAKEN = 1;
const RELEASED = 2;
const DONE = 3;
const FAILED = 4;

/**
 * The function that the native side calls, on the JS thread, with letters of four places each: the kind, the number of a
 * call (of a lease in some events), and two more that the kind gives a meaning to.
 */
function deliver(letters) {
  for (let at = 0; at < letters.length; at += 4) {
    try {
      hand_over(letters[at], letters[at + 1], letters[at + 2], letters[at + 3]);
    } catch (error) {
      // What one letter brings about keeps no other from being delivered.
      next_tick(rethrow, error);
    }
  }
}

function hand_over(kind, number, first, second) {
  switch (kind) {
    case ACQUIRED:
      settle(number).acquired(first, second);
      break;
    case TAKEN:
      settle(number).taken(first);
      break;
    case RELEASED:
      settle(number).done(first);
      break;
    case DONE:
      settle(number).done();
      break;
    case FAILED:
      settle(number).failed(first === undefined ? unsaid() : from_native(first));
      break;
    default:
      guarded(HANDLERS[first], number, second);
  }
}

/** A failure that did not get across the border. */
function unsaid() {
  return make_error(
    'ERR_INTERNAL',
    'redis-reservation failed inside: what became of a call could not be made a value of JavaScript; please report it',
  );
}

// Whose event was the last: lines that there was no room for are counted in the log that would have had them.
let last_told = null;

/** The lease of an event, and its instance's state; undefined where the caller has given it up meanwhile. */
function held(handle) {
  const lease = lease_of(handle);
  if (lease !== undefined) last_told = lease.instance;
  return lease;
}

function waiting(number) {
  const wait = call_of(number);
  if (wait !== undefined) last_told = wait.instance;
  return wait;
}

const HANDLERS = {
  'reservation-extended'(handle, { key, duration, val }) {
    const lease = held(handle);
    if (lease === undefined) return;
    run_in(lease.scope, log.info, lease.instance, 'reservation-extended', { key, duration, val });
  },

  'expire-set-failed'(handle, { err, key }) {
    const lease = held(handle);
    if (lease === undefined) return;
    run_in(lease.scope, log.error, lease.instance, 'expire-set-failed', { err: from_native(err), key });
  },

  'redis-error'(number, { host, port, err }) {
    const wait = waiting(number);
    if (wait === undefined) return;
    log.error(wait.instance, 'redis-error', { host, port, err: from_native(err) });
  },

  // The server does not say when a key changes: a wait there is as quick as its poll.
  'waiting-by-polling'(number, { endpoint, reason }) {
    const wait = waiting(number);
    if (wait !== undefined) log.warn(wait.instance, 'waiting-by-polling', { endpoint, reason });
  },

  'log-lines-dropped'(_number, { count }) {
    if (last_told !== null) log.warn(last_told, 'log-lines-dropped', { count });
  },

  // A waiter tried and did not get it. 0.4.0 waited by calling lock, and this is what that printed.
  'reservation-attempt'(number, { key, holder }) {
    const wait = waiting(number);
    if (wait === undefined) return;
    const { instance, resource } = wait;
    wait.run(() => {
      if (holder != null) log.info(instance, 'reservation-exists', { key, resource, val: holder });
      log.info(instance, 'reservation-attempted', { resource, lock_status: false, key });
      log.info(instance, 'reservation-attempt', { resource, lock_status: false });
    });
  },

  'reservation-lost'(handle, fields) {
    const lease = held(handle);
    // A release or a renewal that the caller asked for found it first, and has told it.
    if (lease === undefined) return;
    // Where the rest did not get across the border, `quiet` is all there is.
    const { key = lease.key, val, holder, message = `Worker lost reservation for ${key}`, quiet } = fields;
    const { instance } = lease;
    const state = peek(instance);
    const error = make_error('ERR_RESERVATION_LOST', message, { key, val, holder });
    loss.found(instance, state, lease, error, quiet === true);
  },

  // Only a release of it tells, and there may be none: it keeps its instance alive no longer.
  'reservation-lapsed'(handle) {
    const lease = lease_of(handle);
    if (lease !== undefined) lapse(lease, peek(lease.instance).native);
  },
};

/**
 * What the native side knows this package by. `resource` is what Node's hooks see of the handle that wakes this thread:
 * tools that look for what keeps a process alive ask it.
 */
const listener = { deliver, set_immediate: setImmediate, resource: { hasRef: any_pending } };

module.exports = { listener };
