// Acquiring: lock() and wait_until_lock(), from the arguments to the answer and its log lines.
'use strict';

const { on_abort, reason_of } = require('../telling/abort');
const { key_of, resource_name, wait_options_from } = require('../arguments/values');
const {
  Attempt,
  answer_other_waits,
  hold,
  add_wait,
  remove_wait,
  misplaced,
  prepare,
  refuse,
} = require('./attempt');
const { ask, give_back } = require('./pending');
const { from_native } = require('../errors');
const log = require('../telling/log');
const { holds } = require('../leases/native');
const { is_overridden } = require('./overridden');
const { behind_callback, wrong_callback } = require('./misuse');
const { state_of } = require('../leases/state');
const { round_of } = require('./round');
const { WaitByCalling } = require('./wait_by_calling');

class Lock extends Attempt {
  constructor(instance, resource, callback) {
    super('lock', instance, resource, callback);
    // The round of a wait by calling in which this lock() is called; null outside of one.
    this.round = null;
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
    call.round = round_of(state);
    if (call.round !== null && answer_in_round(call, state)) return call.promise;
    ask(call, (number) => call.made.native.lock(call.name, number));
  } catch (error) {
    call.later(refuse, call, from_native(error), misplaced(call, [resource, extra]));
  }
  return call.promise;
}

/**
 * In a round of a wait: answers without redis, with the lock offered to the round, or with false if the instance holds the
 * name already. Returns whether it did.
 */
function answer_in_round(call, state) {
  const offer = call.round.accept(call);
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
  const { instance, resource, key, name, round } = call;
  log.info(instance, 'reservation-attempted', { resource, lock_status: true, key });
  if (round !== null) round.settled(name, true);
  call.succeed(true);
  answer_other_waits(instance, state, name, key);
}

function not_locked(call, holder) {
  const { instance, resource, key, name, round } = call;
  if (round !== null) round.settled(name, false);
  if (holder != null) log.info(instance, 'reservation-exists', { key, resource, val: holder });
  log.info(instance, 'reservation-attempted', { resource, lock_status: false, key });
  call.succeed(false);
}

/** One wait_until_lock(), by our own lock(). */
class Wait extends Attempt {
  constructor(instance, resource, callback) {
    super('wait_until_lock', instance, resource, callback);
    // { signal, heard: whether it was aborted, forget: removes the listener }; null without a signal.
    this.abort = null;
    // Its number on the native side while it waits there; -1 otherwise.
    this.number = -1;
  }

  get rejects_silently() {
    return false;
  }

  get aborted() {
    return this.abort !== null && this.abort.heard;
  }

  acquired(handle, val) {
    this.run(wait_ended, this, null, handle, val);
  }

  failed(error) {
    this.run(wait_ended, this, error);
  }

  /** Another call of the instance has acquired the resource: that answers this wait too. */
  already_held(key) {
    remove_wait(state_of(this.instance), this);
    this.run(tell_acquired, this, key);
    this.cancel();
  }

  cancel() {
    if (this.number !== -1) this.made.native.cancel_wait(this.name, this.number);
  }
}

/** The callback may be the second argument. */
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
      wait.later(tell_acquired, wait, wait.key);
    } else {
      enqueue(state, wait, timeout);
    }
  } catch (error) {
    wait.later(refuse, wait, from_native(error), misplaced(wait, [resource]));
  }
  return wait.promise;
}

/** Whether the instance already holds the resource, under the key that it has by the fields as they are now. */
function has_already(state, { name, key }) {
  return state.size > 0 && key_of(name, state.settings.key_prefix) === key && holds(state, name);
}

function enqueue(state, wait, timeout) {
  const { instance, abort } = wait;
  wait.made = prepare(instance, state);
  if (abort !== null) {
    // Before the wait begins: if this throws, no wait may be left that nobody can end.
    abort.forget = on_abort(abort.signal, () => {
      abort.heard = true;
      wait.cancel();
    });
  }
  add_wait(state, wait);
  try {
    ask(wait, (number) => {
      wait.made.native.wait_until_lock(wait.name, number, state.id, timeout);
      wait.number = number;
    });
  } catch (error) {
    remove_wait(state, wait);
    throw error;
  }
  if (wait.aborted) wait.cancel();
}

/** The native wait has ended: with a lock, or with an error. */
function wait_ended(wait, error, handle, val) {
  const { instance, resource, name, key } = wait;
  const state = state_of(instance);
  wait.number = -1;
  remove_wait(state, wait);
  if (error === null && wait.aborted) {
    // It was acquired just before the abort took effect.
    give_back(wait.made.native, handle, () => wait.run(give_up, wait));
  } else if (error === null) {
    hold(instance, state, wait, key, handle, val);
    log.info(instance, 'reservation-attempted', { resource, lock_status: true, key });
    log.info(instance, 'reservation-attempt', { resource, lock_status: true });
    tell_acquired(wait, key);
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

function tell_acquired(wait, key) {
  const { instance, resource } = wait;
  log.info(instance, 'reservation-acquired', { resource, key });
  wait.succeed(key);
}

module.exports = { lock, wait_until_lock };
