// Getting a lock: lock() and wait_until_lock(), from the arguments to the answer and the lines around it.
'use strict';

const { on_abort, reason_of } = require('./abort');
const { key_of, resource_name, wait_options_from } = require('./arguments');
const { ask } = require('./calls');
const { Call, run_in } = require('./context');
const { from_native } = require('./errors');
const log = require('./log');
const { beat, is_overridden } = require('./loss');
const { holds, key_for, native_for } = require('./native');
const { state_of } = require('./state');

/** A resource that is asked for. */
class Attempt extends Call {
  constructor(method, instance, resource, callback) {
    super(method, callback);
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

class Lock extends Attempt {
  constructor(instance, resource, callback) {
    super('lock', instance, resource, callback);
  }

  acquired(handle, val) {
    this.run(locked, this, handle, val);
  }

  taken(holder) {
    this.run(not_locked, this, holder);
  }

  failed(error) {
    this.run(refuse, this, error);
  }
}

function lock(instance, resource, callback) {
  const call = new Lock(instance, resource, callback);
  if (call.answered) return call.promise;
  try {
    call.name = resource_name(resource);
    call.made = prepare(instance, state_of(instance));
    ask(call, (number) => call.made.native.lock(call.name, number));
  } catch (error) {
    call.later(refuse, call, from_native(error));
  }
  return call.promise;
}

function locked(call, handle, val) {
  const { instance, resource, key, name } = call;
  const state = state_of(instance);
  hold(instance, state, call, key, handle, val);
  log.info(instance, 'reservation-attempted', { resource, lock_status: true, key });
  call.succeed(true);
  answer_other_waits(instance, state, name, key);
}

function not_locked(call, holder) {
  const { instance, resource, key } = call;
  if (holder != null) log.info(instance, 'reservation-exists', { key, resource, val: holder });
  log.info(instance, 'reservation-attempted', { resource, lock_status: false, key });
  call.succeed(false);
}

/** A wait that is under way, or answered already. */
class Wait extends Attempt {
  constructor(instance, resource, callback) {
    super('wait_until_lock', instance, resource, callback);
    // Where there is a signal: it, whether it was aborted, and what takes the listener off it.
    this.abort = null;
    // Its number on the native side, while it waits there.
    this.number = -1;
  }

  get bare() {
    return false;
  }

  get aborted() {
    return this.abort !== null && this.abort.heard;
  }

  acquired(handle, val) {
    this.run(woken, this, null, handle, val);
  }

  failed(error) {
    this.run(woken, this, error);
  }

  cancel() {
    if (this.number !== -1) this.made.native.cancel_wait(this.name, this.number);
  }
}

function wait_until_lock(instance, resource, options, callback) {
  const wait = new Wait(instance, resource, callback);
  if (wait.answered) return wait.promise;
  try {
    wait.name = resource_name(resource);
    const { timeout, signal } = wait_options_from(options);
    if (signal !== undefined) wait.abort = { signal, heard: signal.aborted, forget: null };
    const state = state_of(instance);
    if (wait.aborted) {
      wait.later(give_up, wait);
    } else if (has_already(state, wait)) {
      wait.made = state.made;
      wait.later(waited, wait, wait.key);
    } else {
      enqueue(state, wait, timeout);
    }
  } catch (error) {
    wait.later(refuse, wait, from_native(error));
  }
  return wait.promise;
}

/** Whether the instance holds the resource already, under the key that it has now. */
function has_already(state, { name, key }) {
  return state.size > 0 && key_of(name, state.settings.key_prefix) === key && holds(state, name);
}

function enqueue(state, wait, timeout) {
  const { instance, abort } = wait;
  wait.made = prepare(instance, state);
  if (abort !== null) {
    // Before the wait begins: a signal that cannot be listened to must not leave one behind that nobody can end.
    abort.forget = on_abort(abort.signal, () => {
      abort.heard = true;
      wait.cancel();
    });
  }
  join(state, wait);
  try {
    ask(wait, (number) => {
      wait.made.native.wait_until_lock(wait.name, number, state.id, timeout);
      wait.number = number;
    });
  } catch (error) {
    leave(state, wait);
    throw error;
  }
  if (wait.aborted) wait.cancel();
}

/** The native side is done with a wait, in whatever way. */
function woken(wait, error, handle, val) {
  const { instance, resource, name, key } = wait;
  const state = state_of(instance);
  wait.number = -1;
  leave(state, wait);
  if (error === null && wait.aborted) {
    give_back(wait, handle);
  } else if (error === null) {
    hold(instance, state, wait, key, handle, val);
    log.info(instance, 'reservation-attempted', { resource, lock_status: true, key });
    log.info(instance, 'reservation-attempt', { resource, lock_status: true });
    waited(wait, key);
    answer_other_waits(instance, state, name, key);
  } else if (wait.aborted) {
    give_up(wait);
  } else if (!wait.answered) {
    refuse(wait, error);
  }
}

function give_up(wait) {
  wait.fail(reason_of(wait.abort.signal, wait.promise === undefined));
}

/** Acquired too late for the lock to be wanted, too early for the abort to be heard: it goes back unseen. */
function give_back(wait, handle) {
  // Whether it succeeds or not, there is nothing more to tell: where it does not, the ttl frees the key.
  const { native } = wait.made;
  const end = () => wait.run(give_up, wait);
  const failed = () => {
    native.forget(handle);
    end();
  };
  try {
    ask({ done: end, failed }, (number) => native.release(handle, number));
  } catch (_) {
    give_up(wait);
  }
}

function waited(wait, key) {
  const { instance, resource } = wait;
  log.info(instance, 'reservation-acquired', { resource, key });
  wait.succeed(key);
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
    if (wait.aborted) continue;
    leave(state, wait);
    wait.run(waited, wait, key);
    wait.cancel();
  }
}

function hold(instance, state, call, key, handle, val) {
  const lease = state.add(instance, key, val, handle, call.scope);
  if (!is_overridden(instance)) return;
  state.start_timer(
    () => state.settings.heartbeat || (state.settings.ttl * 1000) / 3,
    () => beat(instance, state, lease),
  );
}

/** What every call to redis begins with, as in 0.4.0: afterwards `_redis` is there. */
function prepare(instance, state) {
  instance._init_redis();
  native_for(instance, state);
  return state.made;
}

function refuse(call, error) {
  const { instance, resource, key } = call;
  log.connection_trouble(instance, error);
  // Without a key the resource was none, or its key cannot be told: there is no telling what is in it.
  const data = key === undefined ? { err: error } : { resource, key, err: error };
  log.info(instance, 'reservation-failed', data);
  call.fail(error);
}

module.exports = { lock, wait_until_lock };
