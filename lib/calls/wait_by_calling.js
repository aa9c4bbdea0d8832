// wait_until_lock() where lock() is overridden: by a subclass, a patched instance or a patched prototype. Only that method
// knows what it locks, and under which name. So the wait calls it once a second, as 0.4.0 did; each call is a round.
//
// To wake within milliseconds all the same: after a round that asked our own lock() for one name and found it held, a native
// waiter waits for that name. The lock that it acquires is offered to the next round: if the method asks our lock() for that
// name before it returns, our lock() answers with the offer. An offer that is not taken is released at once.
'use strict';

const { on_abort, reason_of } = require('../telling/abort');
const { key_of, resource_name, wrong_value } = require('../arguments/values');
const { Attempt, add_wait, remove_wait, refuse } = require('./attempt');
const { ask, give_back } = require('./pending');
const { run_in } = require('./call');
const { from_native, make_error } = require('../errors');
const log = require('../telling/log');
const { holds } = require('../leases/native');
const overridden = require('./overridden');
const { state_of } = require('../leases/state');
const { LONGEST_TIMER, clearTimeout, setTimeout } = require('../timers');
const { Round, shared_leases, run_in_round, round_of } = require('./round');

// Milliseconds between two rounds, ±10 %: many waits may have begun at once.
const PAUSE = 1000;
// How long (ms) the first round may outlast the wait's timeout: a free resource is acquired, however short the timeout is.
const GRACE = 5000;
// How deep waits may nest: a wait in a round of the same instance's wait, and so on.
const DEEPEST = 8;

// Errors that do not end a wait, once redis has been reached.
const PASSING = ['ERR_REDIS_CONNECTION', 'ERR_REDIS_TIMEOUT', 'ERR_REDIS_REPLY', 'ERR_TOO_FEW_REPLICAS'];

/** The native waiter of a wait: its place in the native queue. No caller sees it; it reports to the wait alone. */
class Waker {
  constructor(wait, name, made) {
    this.wait = wait;
    this.instance = wait.instance;
    this.resource = wait.resource;
    this.name = name;
    this.made = made;
    this.abort = null;
    this.number = -1;
  }

  get aborted() {
    return this.wait === null;
  }

  /** Where the log lines of its attempts would be written. None are: the rounds log their own. */
  run() {}

  start(state) {
    add_wait(state, this);
    try {
      ask(this, (number) => {
        this.made.native.wait_until_lock(this.name, number, state.id, undefined);
        this.number = number;
      });
    } catch (error) {
      remove_wait(state, this);
      throw error;
    }
  }

  stop() {
    if (this.wait === null) return;
    this.wait = null;
    remove_wait(state_of(this.instance), this);
    if (this.number !== -1) this.made.native.cancel_wait(this.name, this.number);
  }

  acquired(handle, val) {
    const { name, made, wait } = this;
    const offer = { name, made, handle, val };
    this.number = -1;
    if (wait === null) give_back(offer.made.native, offer.handle);
    // A round that has asked already cannot take it any more. It is for the next one: the wait would lose its place.
    else if (wait.round !== null) wait.offer = offer;
    else wait.run(start_round, wait, offer);
    // Now a later round can start a new waker.
    if (wait !== null && wait.waker === this) wait.unwatch();
  }

  failed(error) {
    const { wait } = this;
    this.number = -1;
    if (wait === null) return;
    wait.unwatch();
    wait.run(() => {
      if (wait.end()) refuse(wait, error);
    });
  }

  /** Another call of the instance has acquired the name: the next round finds it held. */
  already_held() {
    if (this.wait.round === null) this.wait.run(start_round, this.wait, null);
  }
}

class WaitByCalling extends Attempt {
  constructor(instance, resource, callback) {
    super('wait_until_lock', instance, resource, callback);
    // The round whose answer is pending; null between rounds.
    this.round = null;
    this.depth = 0;
    this.waker = null;
    // A lock that the waker acquired during a round: { name, made, handle, val }; null as a rule.
    this.offer = null;
    // Whether redis has answered in any round.
    this.has_reached = false;
    // Whether a round asked for several names, or acquired one and still answered false. Then a name that the instance holds
    // does not mean that the wait has succeeded.
    this.is_doubtful = false;
    // Whether a round has finished.
    this.has_tried = false;
    // The key of the last round that asked for exactly one name; undefined before there was one.
    this.tried_key = undefined;
    this.timer = null;
    this.deadline = null;
    // The timeout in ms, once it has expired during the first round.
    this.late = undefined;
    this.abort = null;
  }

  get rejects_silently() {
    return false;
  }

  /** In a new child of its async context each time, so that no round changes the context of the next. */
  run(code, first, second, third) {
    run_in(this.scope, code, first, second, third);
  }

  start(timeout, signal) {
    const outer = round_of(state_of(this.instance));
    this.depth = outer === null ? 0 : outer.wait.depth + 1;
    if (this.depth > DEEPEST) {
      throw wrong_value(
        'lock is overridden by a method that calls wait_until_lock, which waits by calling lock: that has no end. ' +
          'Let it call the inherited lock.',
      );
    }
    try {
      // For log lines only: which key it has in redis is decided by the method.
      this.name = resource_name(this.resource);
    } catch (_) {
      // Only the method may know its name.
    }
    if (signal !== undefined) {
      this.abort = { signal, forget: on_abort(signal, () => this.run(give_up, this)) };
      if (signal.aborted) {
        this.later(give_up, this);
        return;
      }
    }
    if (timeout < Infinity) this.expire_in(timeout, timeout);
    start_round(this, null);
  }

  /** Starts the next round after the pause. The timer always runs, so a wait keeps the process alive whatever the method does. */
  pause() {
    clearTimeout(this.timer);
    this.timer = setTimeout(
      () => {
        if (this.round === null) this.run(start_round, this, null);
        else this.pause();
        // A round may take for ever, and nobody else can have the lock meanwhile.
        this.withdraw_offer();
      },
      PAUSE * (0.9 + 0.2 * Math.random()),
    );
  }

  expire_in(left, timeout) {
    const piece = Math.min(left, LONGEST_TIMER);
    this.deadline = setTimeout(() => {
      if (left > piece) this.expire_in(left - piece, timeout);
      else if (this.has_tried) this.run(expire, this, timeout);
      else this.expire_after_try(timeout);
    }, piece);
  }

  expire_after_try(timeout) {
    this.late = timeout;
    this.deadline = setTimeout(() => this.run(expire, this, timeout), GRACE);
  }

  watch(name, made) {
    const { waker } = this;
    if (waker !== null && waker.name === name && waker.made.native === made.native) return;
    this.unwatch();
    this.waker = new Waker(this, name, made);
    this.waker.start(state_of(this.instance));
  }

  unwatch() {
    if (this.waker !== null) this.waker.stop();
    this.waker = null;
  }

  /** Takes what the waker acquired during the last round; null if that is nothing. */
  take_offer() {
    const { offer } = this;
    this.offer = null;
    return offer;
  }

  withdraw_offer() {
    const offer = this.take_offer();
    if (offer !== null) give_back(offer.made.native, offer.handle);
  }

  /** Stops timers, signal and waker. Returns false if the wait was answered already. */
  end() {
    if (this.answered) return false;
    clearTimeout(this.timer);
    clearTimeout(this.deadline);
    if (this.abort !== null) this.abort.forget();
    this.unwatch();
    this.withdraw_offer();
    return true;
  }
}

function start_round(wait, offer) {
  const state = state_of(wait.instance);
  const round = new Round(wait, state, offer);
  wait.round = round;
  wait.pause();
  let has_returned = false;
  const answer = (error, value) => {
    if (has_returned) wait.run(finish, round, error, value);
    else wait.later(finish, round, error, value);
  };
  run_in_round(round, () => overridden.call_method(wait.instance, 'lock', [wait.resource], answer));
  has_returned = true;
  if (round.offer === null) return;
  give_back(round.offer.made.native, round.offer.handle);
  round.offer = null;
  round.has_wasted = true;
}

/** The method has answered, so the round is over. */
function finish(round, error, value) {
  const { wait, asked, name, state } = round;
  round.is_over = true;
  if (wait.answered) return;
  wait.round = null;
  wait.has_tried = true;
  if (name !== undefined) wait.tried_key = key_of(name, state.settings.key_prefix);
  wait.has_reached = wait.has_reached || Array.from(asked.values()).some((outcome) => outcome !== undefined);
  if (error !== null && !is_passing(round, error)) {
    fail(wait, error);
    return;
  }
  const outcome = asked.get(name);
  // 0.4.0 ignored the value, so a method may leave it out.
  const has_it = value === undefined ? outcome === true : Boolean(value);
  const had_it = outcome === false && !wait.is_doubtful && holds(state, name);
  const { instance, resource } = wait;
  if (error === null) log.info(instance, 'reservation-attempt', { resource, lock_status: has_it });
  if (error === null && (has_it || had_it)) {
    const key = name === undefined ? undefined : wait.tried_key;
    if (!has_it) shared_leases.add(state.get(key));
    succeed(wait, key);
    return;
  }
  wait.is_doubtful = wait.is_doubtful || asked.size > 1 || outcome === true;
  rest(round, error);
}

/** Waits for the next round: by a native waker where one can help, else by the pause alone. */
function rest(round, error) {
  const { wait, asked, name, state } = round;
  wait.pause();
  // The waker waits for the name that this round found held. In an outage, the native side decides whether to wait it out.
  // A round that did not take its offer would not take the next one either, so then only the pause is left.
  const is_known = name !== undefined && (asked.get(name) === false || error !== null);
  if (wait.late !== undefined) {
    expire(wait, wait.late);
  } else if (is_known && !round.has_wasted) {
    const offer = wait.take_offer();
    if (offer !== null) {
      wait.run(start_round, wait, offer);
      return;
    }
    try {
      wait.watch(name, state.made);
    } catch (thrown) {
      fail(wait, from_native(thrown));
    }
  } else {
    wait.unwatch();
    wait.withdraw_offer();
  }
}

/** Whether the wait goes on after an error. */
function is_passing({ wait, name }, { code }) {
  return PASSING.includes(code) && (wait.has_reached || name !== undefined);
}

function succeed(wait, key = wait.instance._reserve_key || wait.key) {
  if (!wait.end()) return;
  log.info(wait.instance, 'reservation-acquired', { resource: wait.resource, key });
  wait.succeed(key);
}

function fail(wait, error) {
  if (!wait.end()) return;
  // Our own lock() has logged the connection trouble already.
  log.info(wait.instance, 'reservation-failed', { resource: wait.resource, key: wait.key, err: error });
  wait.fail(error);
}

function expire(wait, timeout) {
  const key = wait.tried_key === undefined ? wait.key : wait.tried_key;
  const message = `Waited ${timeout} ms for ${key} without getting it (timeout)`;
  abandon(wait, () => fail(wait, make_error('ERR_RESERVATION_TIMEOUT', message, { key })));
}

function give_up(wait) {
  abandon(wait, () => {
    if (wait.end()) wait.fail(reason_of(wait.abort.signal, wait.promise === undefined));
  });
}

/** Ends a wait whose round may still be pending: what the round acquired, or acquires from now on, is released. */
function abandon(wait, answer) {
  const { round } = wait;
  answer();
  if (round !== null) round.release_all();
}

module.exports = { WaitByCalling };
