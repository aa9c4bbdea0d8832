// What lock() and wait_until_lock() share: preparing an attempt, recording its lease, reporting its failure, and the list of
// an instance's pending waits.
'use strict';

const { key_of } = require('../arguments/values');
const { check_log } = require('../arguments/construct');
const { Call, guarded, run_in } = require('./call');
const log = require('../telling/log');
const { beat, superseded } = require('../telling/loss');
const { holds, key_for, native_for } = require('../leases/native');
const { has_own_renewal, is_overridden } = require('./overridden');
const { refuse_client } = require('./misuse');

/** A call that tries to acquire a resource. */
class Attempt extends Call {
  constructor(method, instance, resource, callback) {
    super(method, typeof callback === 'function' ? callback : undefined);
    this.instance = instance;
    this.resource = resource;
    this.name = undefined;
    // { native, fields, settings } of this attempt; null before it was submitted.
    this.made = null;
  }

  /** In a child of its async context, so that the lease keeps the context unchanged. */
  run(code, first, second, third, fourth) {
    run_in(this.scope, code, first, second, third, fourth);
  }

  /** The key in redis; undefined while it cannot be known. Built when it is read, to save memory: many may wait for long. */
  get key() {
    if (this.made !== null) return key_of(this.name, this.made.settings.key_prefix);
    return this.name === undefined ? undefined : key_for(this.instance, this.name);
  }
}

/** First step of every call to redis: checks `log`, sets `_redis` as 0.4.0 did, and brings the native object up to date. */
function prepare(instance, state) {
  check_log(instance);
  instance._init_redis();
  refuse_client(instance);
  native_for(instance, state);
  return state.made;
}

function hold(instance, state, call, key, handle, val) {
  const former = state.get(key);
  if (former !== undefined) superseded(instance, state, former, val);
  const lease = state.add(instance, key, val, handle, call.scope);
  if (!has_own_renewal(instance) && !is_overridden(instance, '_set_expiration')) return;
  state.start_timer(
    () => state.settings.heartbeat || (state.settings.ttl * 1000) / 3,
    () => beat(instance, state, lease),
  );
}

/** A callback that was passed in the wrong place. It gets the error too, since its caller may ignore the promise. */
function misplaced({ promise }, places) {
  return promise === undefined ? undefined : places.find((one) => typeof one === 'function');
}

function refuse(call, error, misplaced_callback) {
  const { instance, resource, key } = call;
  log.connection_trouble(instance, error);
  // Without a key, the resource may be invalid: its content is not logged.
  const data = key === undefined ? { err: error } : { resource, key, err: error };
  log.info(instance, 'reservation-failed', data);
  call.fail(error);
  if (misplaced_callback === undefined) return;
  call.promise.catch(() => {});
  guarded(() => misplaced_callback(error));
}

function add_wait(state, wait) {
  const { waits } = state;
  if (waits === null) {
    state.waits = wait;
    return;
  }
  if (!(waits instanceof Map)) state.waits = new Map([[waits.name, new Set([waits])]]);
  const others = state.waits.get(wait.name);
  if (others === undefined) state.waits.set(wait.name, new Set([wait]));
  else others.add(wait);
}

/** Removes a wait that is over, and its listener on the signal. */
function remove_wait(state, wait) {
  if (state.waits instanceof Map) {
    const others = state.waits.get(wait.name);
    if (others !== undefined && others.delete(wait) && others.size === 0) state.waits.delete(wait.name);
    if (state.waits.size === 0) state.waits = null;
  } else if (state.waits === wait) {
    state.waits = null;
  }
  const { abort } = wait;
  if (abort === null || abort.forget === null) return;
  abort.forget();
  abort.forget = null;
}

function waits_for(state, name) {
  const { waits } = state;
  if (waits instanceof Map) return waits.has(name) ? Array.from(waits.get(name)) : [];
  return waits !== null && waits.name === name ? [waits] : [];
}

/**
 * Answers all other waits of this instance for a resource that it has just acquired. One instance is one owner: code that
 * awaits two such waits before it releases would wait for itself.
 */
function answer_other_waits(instance, state, name, key) {
  if (state.waits === null || !holds(state, name)) return;
  for (const wait of waits_for(state, name)) {
    // The callback that was just answered may have released it. Then the others go on waiting.
    if (!holds(state, name)) return;
    // A wait that is being aborted gets its own answer.
    if (!wait.aborted) wait.already_held(key);
  }
}

module.exports = { Attempt, answer_other_waits, hold, add_wait, remove_wait, misplaced, prepare, refuse };
