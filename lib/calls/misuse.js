// Misuse that would otherwise succeed, or fail silently: a method called without its instance, a callback in the wrong place,
// a release() that gets the value of a promise. Each error says what was probably meant.
'use strict';

const { wrong_type, wrong_value } = require('../arguments/values');
const { Call } = require('./call');
const { is_handle } = require('./endpoint');
const { describe } = require('../errors');
const log = require('../telling/log');
const { is_overridden } = require('./overridden');
const { peek } = require('../leases/state');

/** Whether a method is called without its instance. Every instance, however it was made, has _init_redis. */
function is_detached(instance) {
  return typeof instance._init_redis !== 'function';
}

function detached_error(method, instance) {
  const seen = instance === globalThis ? 'the global object' : describe(instance);
  return wrong_type(
    `${method} was called without its instance: its this is ${seen}. Call it as reservation.${method}(…), ` +
      `or pass reservation.${method}.bind(reservation) on.`,
  );
}

/** A call of a detached method. It has no instance, so it has no log. */
class DetachedCall extends Call {
  constructor(method, callback) {
    super(method, callback);
    this.is_loud = /release|wait/.test(method);
  }

  // Code for 0.4.0 ignores what the other methods return.
  get rejects_silently() {
    return !this.is_loud;
  }
}

/** Fails a call of a detached method: by the callback, wherever it stands, else by the promise. A warning covers ignored promises. */
function answer_detached(method, instance, parameters) {
  const call = new DetachedCall(
    method,
    parameters.find((one) => typeof one === 'function'),
  );
  const error = detached_error(method, instance);
  if (call.promise !== undefined && call.rejects_silently)
    process.emitWarning(error.message, 'ReservationWarning', error.code);
  call.later(() => call.fail(error));
  return call.promise;
}

/** The error for a wrong callback, or for a function behind a missing one; undefined if all is right. */
function wrong_callback(method, callback, behind) {
  if (typeof callback === 'function' || (callback == null && typeof behind !== 'function')) return undefined;
  const remedy =
    method === 'lock' && (callback == null || typeof callback === 'object')
      ? 'lock takes no options before it: only wait_until_lock(resource, { timeout, signal }, callback) does.'
      : 'Leave it out for a promise.';
  return wrong_type(`the callback of ${method} must be a function; it is ${describe(callback)}. ${remedy}`);
}

/** The error for wait_until_lock(resource, callback, options): the options would be ignored. */
function behind_callback(value) {
  return wrong_type(
    `the options of wait_until_lock come before its callback; behind it is ${describe(value)}. ` +
      'Pass wait_until_lock(resource, { timeout, signal }, callback).',
  );
}

/** Throws if `_redis` is a client of the caller's own: the connection is native, and cannot go through it. */
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

/** Warns once if `_heartbeat` is read while a lock is held: code for 0.4.0 clears that timer to end the renewal. */
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

/** The error for .then(reservation.release), which gets true or a key from the promise before it; undefined if it is none. */
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
  answer_detached,
  behind_callback,
  is_detached,
  passed_on,
  refuse_client,
  tell_of_heartbeat,
  detached_error,
  wrong_callback,
};
