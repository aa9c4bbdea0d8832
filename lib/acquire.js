// Getting a lock: lock() and wait_until_lock(), from the arguments to the answer and the lines around it.
'use strict';

const { on_abort, reason_of } = require('./abort');
const { key_of, resource_name, wait_options_from } = require('./arguments');
const { Call } = require('./context');
const { from_native } = require('./errors');
const log = require('./log');
const { beat, is_overridden } = require('./loss');
const { key_for, native_for } = require('./native');
const { state_of } = require('./state');

function lock(instance, resource, callback) {
  const call = new Call('lock', callback, true);
  if (call.answered) return call.promise;
  let key;
  try {
    const name = resource_name(resource);
    key = key_for(instance, name);
    const state = state_of(instance);
    prepare(instance, state).lock(name, (error, got, _key, val_or_holder) => {
      if (error != null) call.run(refuse, instance, call, resource, key, from_native(error));
      else if (got) call.run(locked, instance, state, call, resource, name, key, val_or_holder);
      else call.run(not_locked, instance, call, resource, key, val_or_holder);
    });
  } catch (error) {
    call.later(refuse, instance, call, resource, key, from_native(error));
  }
  return call.promise;
}

function locked(instance, state, call, resource, name, key, val) {
  hold(instance, state, call, key, val);
  log.info(instance, 'reservation-attempted', { resource, lock_status: true, key });
  call.succeed(true);
  answer_other_waits(instance, state, name, key);
}

function not_locked(instance, call, resource, key, holder) {
  if (holder != null) log.info(instance, 'reservation-exists', { key, resource, val: holder });
  log.info(instance, 'reservation-attempted', { resource, lock_status: false, key });
  call.succeed(false);
}

function wait_until_lock(instance, resource, options, callback) {
  const call = new Call('wait_until_lock', callback, false);
  if (call.answered) return call.promise;
  let key;
  try {
    const name = resource_name(resource);
    key = key_for(instance, name);
    const { timeout, signal } = wait_options_from(options);
    const state = state_of(instance);
    if (signal !== undefined && signal.aborted) {
      call.later(give_up, { call, signal });
    } else if (holds(state, name, key)) {
      call.later(waited, instance, call, resource, key);
    } else {
      enqueue(
        instance,
        state,
        { call, resource, name, key, signal, id: undefined, forget: null, aborted: false },
        timeout,
      );
    }
  } catch (error) {
    call.later(refuse, instance, call, resource, key, from_native(error));
  }
  return call.promise;
}

/** Whether the instance holds the resource already, under the key that it has now. */
function holds({ native, settings }, name, key) {
  return native !== null && native.is_held(name) && key_of(name, settings.key_prefix) === key;
}

function enqueue(instance, state, wait, timeout) {
  const { call, name, signal } = wait;
  const native = prepare(instance, state);
  if (signal !== undefined) {
    // Before the wait begins: a signal that cannot be listened to must not leave one behind that nobody can end.
    wait.forget = on_abort(signal, () => {
      wait.aborted = true;
      if (wait.id !== undefined) native.cancel_wait(wait.id);
    });
  }
  if (state.waits === null) state.waits = new Map();
  let others = state.waits.get(name);
  if (others === undefined) state.waits.set(name, (others = new Set()));
  others.add(wait);
  try {
    const answer = (error, _key, val) => call.run(woken, instance, state, wait, error, val);
    wait.id = native.wait_until_lock(name, answer, timeout);
  } catch (error) {
    leave(state, wait);
    throw error;
  }
  if (wait.aborted) native.cancel_wait(wait.id);
}

/** The native side is done with a wait, in whatever way. */
function woken(instance, state, wait, error, val) {
  const { call, resource, name, key } = wait;
  leave(state, wait);
  if (error == null && wait.aborted) {
    give_back(state, wait);
  } else if (error == null) {
    hold(instance, state, call, key, val);
    log.info(instance, 'reservation-attempted', { resource, lock_status: true, key });
    log.info(instance, 'reservation-attempt', { resource, lock_status: true });
    waited(instance, call, resource, key);
    answer_other_waits(instance, state, name, key);
  } else if (wait.aborted) {
    give_up(wait);
  } else if (!call.answered) {
    refuse(instance, call, resource, key, from_native(error));
  }
}

function give_up({ call, signal }) {
  call.fail(reason_of(signal, call.callback !== null));
}

/** Acquired too late for the lock to be wanted, too early for the abort to be heard: it goes back unseen. */
function give_back(state, wait) {
  try {
    // Whether it succeeds or not, there is nothing more to tell: where it does not, the ttl frees the key.
    state.native.release(wait.name, () => wait.call.run(give_up, wait));
  } catch (_) {
    give_up(wait);
  }
}

function waited(instance, call, resource, key) {
  log.info(instance, 'reservation-acquired', { resource, key });
  call.succeed(key);
}

/** A wait is over: it is in nobody's way any more, and its signal is no longer listened to. */
function leave(state, wait) {
  const others = state.waits.get(wait.name);
  if (others !== undefined && others.delete(wait) && others.size === 0) state.waits.delete(wait.name);
  if (wait.forget !== null) wait.forget();
  wait.forget = null;
}

/**
 * The instance has come to hold a resource: whatever else waits for it on this very instance waits for what it has. One
 * instance is one owner; left waiting, code that awaits two such waits before it releases would never go on.
 */
function answer_other_waits(instance, state, name, key) {
  const others = state.waits === null ? undefined : state.waits.get(name);
  if (others === undefined) return;
  for (const wait of Array.from(others)) {
    // The callback that was just answered may have released it already: then they wait on.
    if (!state.native.is_held(name)) return;
    // An abort that is under way is answered by itself.
    if (wait.aborted) continue;
    leave(state, wait);
    wait.call.run(waited, instance, wait.call, wait.resource, key);
    state.native.cancel_wait(wait.id);
  }
}

function hold(instance, state, call, key, val) {
  state.holding.add(instance, key, val, call);
  if (!is_overridden(instance)) return;
  const lease = state.holding.leases.get(key);
  state.holding.start_timer(
    () => state.settings.heartbeat || (state.settings.ttl * 1000) / 3,
    () => beat(instance, state, lease),
  );
}

/** What every call to redis begins with, as in 0.4.0: afterwards `_redis` is there. */
function prepare(instance, state) {
  instance._init_redis();
  return native_for(instance, state);
}

function refuse(instance, call, resource, key, error) {
  log.connection_trouble(instance, error);
  // Without a key the resource was none, or its key cannot be told: there is no telling what is in it.
  const data = key === undefined ? { err: error } : { resource, key, err: error };
  log.info(instance, 'reservation-failed', data);
  call.fail(error);
}

module.exports = { lock, wait_until_lock };
