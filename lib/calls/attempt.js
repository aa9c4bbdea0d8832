// What lock() and wait_until_lock() have in common: a resource that is asked for, from what its call begins with to the lease
// or the refusal that it comes to; and which waits of one instance are under way.
'use strict';

const { key_of } = require('../arguments/values');
const { check_log } = require('../arguments/construct');
const { Call, guarded, run_in } = require('./call');
const log = require('../telling/log');
const { beat } = require('../telling/loss');
const { holds, key_for, native_for } = require('../leases/native');
const { has_own_renewal, is_overridden } = require('./overridden');
const { refuse_client } = require('./slips');

/** A resource that is asked for. */
class Attempt extends Call {
  constructor(method, instance, resource, callback) {
    super(method, typeof callback === 'function' ? callback : undefined);
    this.instance = instance;
    this.resource = resource;
    this.name = undefined;
    // The native object that it goes by, and what that was made from; null before it goes.
    this.made = null;
  }

  /** In a child of its context, which the lease that comes of it keeps as it was. */
  run(code, first, second, third, fourth) {
    run_in(this.scope, code, first, second, third, fourth);
  }

  /** Built at each look, for many may wait for long; undefined while it cannot be told. */
  get key() {
    if (this.made !== null) return key_of(this.name, this.made.settings.key_prefix);
    return this.name === undefined ? undefined : key_for(this.instance, this.name);
  }
}

/** What every call to redis begins with, as in 0.4.0: afterwards `_redis` is there. */
function prepare(instance, state) {
  check_log(instance);
  instance._init_redis();
  refuse_client(instance);
  native_for(instance, state);
  return state.made;
}

function hold(instance, state, call, key, handle, val) {
  const lease = state.add(instance, key, val, handle, call.scope);
  if (!has_own_renewal(instance) && !is_overridden(instance, '_set_expiration')) return;
  state.start_timer(
    () => state.settings.heartbeat || (state.settings.ttl * 1000) / 3,
    () => beat(instance, state, lease),
  );
}

/** The callback of a call that looks for it elsewhere: it hears of the error too, since nobody may look at the promise. */
function misplaced({ promise }, places) {
  return promise === undefined ? undefined : places.find((one) => typeof one === 'function');
}

function refuse(call, error, misplaced_callback) {
  const { instance, resource, key } = call;
  log.connection_trouble(instance, error);
  // Without a key the resource was none, or its key cannot be told: there is no telling what is in it.
  const data = key === undefined ? { err: error } : { resource, key, err: error };
  log.info(instance, 'reservation-failed', data);
  call.fail(error);
  if (misplaced_callback === undefined) return;
  call.promise.catch(() => {});
  guarded(() => misplaced_callback(error));
}

function join(state, wait) {
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

/** A wait is over: it is in nobody's way any more, and its signal is no longer listened to. */
function leave(state, wait) {
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
 * The instance has come to hold a resource: whatever else waits for it on this very instance waits for what it has. One
 * instance is one owner; left waiting, code that awaits two such waits before it releases would never go on.
 */
function answer_other_waits(instance, state, name, key) {
  if (state.waits === null || !holds(state, name)) return;
  for (const wait of waits_for(state, name)) {
    // The callback that was just answered may have released it already: then they wait on.
    if (!holds(state, name)) return;
    // An abort that is under way is answered by itself.
    if (!wait.aborted) wait.had(key);
  }
}

module.exports = { Attempt, answer_other_waits, hold, join, leave, misplaced, prepare, refuse };
