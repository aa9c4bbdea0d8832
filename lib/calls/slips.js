// Calls that are written by mistake in ways that would otherwise succeed, or fail without a word: a method that lost its
// instance, a callback in another one's place, what a promise passes on. Each gets an error that says what was meant.
'use strict';

const { wrong_type, wrong_value } = require('../arguments/values');
const { Call } = require('./call');
const { is_handle } = require('./endpoint');
const { describe } = require('../errors');
const log = require('../telling/log');
const { is_overridden } = require('./overridden');
const { peek } = require('../leases/state');

/** Whether a method was taken off its instance: no object of ours, however made, is without _init_redis. */
function is_astray(instance) {
  return typeof instance._init_redis !== 'function';
}

function without_instance(method, instance) {
  const seen = instance === globalThis ? 'the global object' : describe(instance);
  return wrong_type(
    `${method} was called without its instance: its this is ${seen}. Call it as reservation.${method}(…), ` +
      `or pass reservation.${method}.bind(reservation) on.`,
  );
}

/** A call without an instance, and so without a log. */
class Stray extends Call {
  constructor(method, callback) {
    super(method, callback);
    this.is_loud = /release|wait/.test(method);
  }

  // Code for 0.4.0 looks at the promises of some methods only.
  get bare() {
    return !this.is_loud;
  }
}

/** Answers it: whichever argument is a callback hears of it, else the promise. */
function astray(method, instance, parameters) {
  const call = new Stray(
    method,
    parameters.find((one) => typeof one === 'function'),
  );
  const error = without_instance(method, instance);
  if (call.promise !== undefined && call.bare)
    process.emitWarning(error.message, 'ReservationWarning', error.code);
  call.later(() => call.fail(error));
  return call.promise;
}

/** What is wrong with a callback, and with a function behind it; undefined where nothing is. */
function wrong_callback(method, callback, behind) {
  if (typeof callback === 'function' || (callback == null && typeof behind !== 'function')) return undefined;
  const remedy =
    method === 'lock' && (callback == null || typeof callback === 'object')
      ? 'lock takes no options before it: only wait_until_lock(resource, { timeout, signal }, callback) does.'
      : 'Leave it out for a promise.';
  return wrong_type(`the callback of ${method} must be a function; it is ${describe(callback)}. ${remedy}`);
}

/** For wait_until_lock(resource, callback, options): what stands behind the callback would not be looked at. */
function behind_callback(value) {
  return wrong_type(
    `the options of wait_until_lock come before its callback; behind it is ${describe(value)}. ` +
      'Pass wait_until_lock(resource, { timeout, signal }, callback).',
  );
}

/** A client of the caller's own, which is set up in a way that cannot be known here. */
function refuse_client(instance) {
  const { _redis } = instance;
  if (_redis == null || is_handle(_redis)) return;
  const place = is_overridden(instance, '_init_redis')
    ? 'what an overridden _init_redis puts there'
    : 'as it was assigned';
  throw wrong_value(
    `_redis must be what _init_redis() of this package makes; it is ${describe(_redis)}, ${place}. The connection is ` +
      'opened natively, and cannot go through another client. Leave _redis alone, and pass what the client was set up ' +
      'with as options of the constructor: db, username, tls, sentinels, cluster, key_prefix, connect_timeout; ' +
      'host, port and password as its arguments.',
  );
}

/** For code that would clear 0.4.0's timer while a lock is held, which ended its renewal. */
function tell_of_heartbeat(instance) {
  const state = peek(instance);
  if (state === undefined || state.size === 0 || state.warned_of_heartbeat) return;
  state.warned_of_heartbeat = true;
  log.warn(instance, 'heartbeat-is-no-timer', {
    field: '_heartbeat',
    remedy: 'Renewal is native: release() ends it, and a heartbeat_interval of Infinity does without it',
  });
}

const PASSED_ON = 'A promise passes its value on: write .then(() => reservation.release()).';

/** What a promise of lock() or wait_until_lock() passes to a release that is handed to its then(). */
function passed_on(resource, name, state) {
  if (typeof resource === 'boolean') {
    return wrong_type(`release takes the name of a resource that is held; it is ${resource}. ${PASSED_ON}`);
  }
  if (state === undefined || state.get(name) === undefined) return undefined;
  const { key_prefix } = state.settings;
  const meant = name.startsWith(key_prefix)
    ? `such as ${describe(name.slice(key_prefix.length))}`
    : 'not its key';
  return wrong_type(
    `release takes the name of a resource, ${meant}; it is the name of a key, ${describe(name)}. ${PASSED_ON}`,
  );
}

module.exports = {
  astray,
  behind_callback,
  is_astray,
  passed_on,
  refuse_client,
  tell_of_heartbeat,
  without_instance,
  wrong_callback,
};
