// Getting a lock: lock() and wait_until_lock(), from the arguments to the answer and the lines around it.
'use strict';

const { on_abort, reason_of } = require('../telling/abort');
const { key_of, resource_name, wait_options_from } = require('../arguments/values');
const { Attempt, answer_other_waits, hold, join, leave, misplaced, prepare, refuse } = require('./attempt');
const { ask } = require('./pending');
const { from_native } = require('../errors');
const log = require('../telling/log');
const { holds } = require('../leases/native');
const { is_overridden } = require('./overridden');
const { behind_callback, wrong_callback } = require('./slips');
const { state_of } = require('../leases/state');
const { turn_of } = require('./turn');
const { WaitByCalling } = require('./wait_by_calling');

class Lock extends Attempt {
  constructor(instance, resource, callback) {
    super('lock', instance, resource, callback);
    // The turn of a wait that goes by an overridden lock, which calls this one.
    this.turn = null;
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

function lock(instance, resource, callback, extra) {
  const call = new Lock(instance, resource, callback);
  try {
    call.name = resource_name(resource);
    const wrong = wrong_callback('lock', callback, extra);
    if (wrong !== undefined) throw wrong;
    const state = state_of(instance);
    call.made = prepare(instance, state);
    call.turn = turn_of(state);
    if (call.turn !== null && is_known(call, state)) return call.promise;
    ask(call, (number) => call.made.native.lock(call.name, number));
  } catch (error) {
    call.later(refuse, call, from_native(error), misplaced(call, [resource, extra]));
  }
  return call.promise;
}

/** Whether the answer is known, since somebody waits: by what was acquired for the wait, or because it is held already. */
function is_known(call, state) {
  const offer = call.turn.accept(call);
  if (offer !== null) {
    hold(call.instance, state, call, call.key, offer.handle, offer.val);
    const lease = state.get(call.key);
    call.later(() => (state.get(lease.key) === lease ? tell_locked(call, state) : not_locked(call, null)));
    return true;
  }
  if (!holds(state, call.name)) return false;
  call.later(not_locked, call, null);
  return true;
}

function locked(call, handle, val) {
  const { instance } = call;
  const state = state_of(instance);
  hold(instance, state, call, call.key, handle, val);
  tell_locked(call, state);
}

function tell_locked(call, state) {
  const { instance, resource, key, name, turn } = call;
  log.info(instance, 'reservation-attempted', { resource, lock_status: true, key });
  if (turn !== null) turn.came_to(name, true);
  call.succeed(true);
  answer_other_waits(instance, state, name, key);
}

function not_locked(call, holder) {
  const { instance, resource, key, name, turn } = call;
  if (turn !== null) turn.came_to(name, false);
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

  /** The instance has come to hold the resource by another call. */
  had(key) {
    leave(state_of(this.instance), this);
    this.run(waited, this, key);
    this.cancel();
  }

  cancel() {
    if (this.number !== -1) this.made.native.cancel_wait(this.name, this.number);
  }
}

/** The callback may stand second. */
function wait_until_lock(instance, resource, second, third) {
  const [options, callback] = typeof second === 'function' ? [null, second] : [second, third];
  const by_calling = is_overridden(instance, 'lock') && typeof resource !== 'function';
  const wait = new (by_calling ? WaitByCalling : Wait)(instance, resource, callback);
  try {
    if (!by_calling) wait.name = resource_name(resource);
    const wrong = wrong_callback('wait_until_lock', callback);
    if (wrong !== undefined) throw wrong;
    if (callback === second && third != null) throw behind_callback(third);
    const { timeout, signal } = wait_options_from(options);
    if (by_calling) {
      wait.start(timeout, signal);
      return wait.promise;
    }
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
    wait.later(refuse, wait, from_native(error), misplaced(wait, [resource]));
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

module.exports = { lock, wait_until_lock };
