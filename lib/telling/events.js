// Letters from the native side, in batches: answers to calls, and events (renewals, outages, attempts of waiters, losses).
// Each event becomes a log line; a loss is also reported to the caller, exactly once.
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
 * The native side calls this on the JS thread. Each letter takes four places of the array: its kind, the number of a call
 * (in some events, of a lease), and two values that depend on the kind.
 */
function deliver(letters) {
  for (let at = 0; at < letters.length; at += 4) {
    try {
      hand_over(letters[at], letters[at + 1], letters[at + 2], letters[at + 3]);
    } catch (error) {
      // The other letters are delivered all the same.
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

/** The error for a failure that could not be made a JavaScript value. */
function unsaid() {
  return make_error(
    'ERR_INTERNAL',
    'redis-reservation failed inside: what became of a call could not be made a value of JavaScript; please report it',
  );
}

// The instance of the last event. Its log gets the count of dropped lines.
let last_told = null;

/** The lease of an event; undefined if the caller has released it meanwhile. */
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

  // The server does not announce changes of keys, so a wait only learns of them by polling.
  'waiting-by-polling'(number, { endpoint, reason }) {
    const wait = waiting(number);
    if (wait !== undefined) log.warn(wait.instance, 'waiting-by-polling', { endpoint, reason });
  },

  'log-lines-dropped'(_number, { count }) {
    if (last_told !== null) log.warn(last_told, 'log-lines-dropped', { count });
  },

  // A waiter's attempt failed. 0.4.0 waited by calling lock(), and printed these lines.
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
    // A release or renewal of the caller's has found and reported it first.
    if (lease === undefined) return;
    const { instance } = lease;
    loss.found(instance, peek(instance), lease, loss.error_of(lease, fields), fields.quiet === true);
  },

  // Only a release reports it, and there may be none, so it no longer keeps its instance alive.
  'reservation-lapsed'(handle) {
    const lease = lease_of(handle);
    if (lease !== undefined) lapse(lease, peek(lease.instance).native);
  },
};

/**
 * What the native side calls. `resource` is the handle that wakes this thread as async_hooks shows it: tools that look for
 * open handles ask its hasRef().
 */
const listener = { deliver, set_immediate: setImmediate, resource: { hasRef: any_pending } };

module.exports = { listener };
