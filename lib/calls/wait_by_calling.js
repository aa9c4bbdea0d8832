// wait_until_lock() where lock() is a caller's own: of a subclass, a patched instance or prototype. What it locks, and under
// which name, only that method knows, so the wait is made of calls of it, a second apart, as in 0.4.0. Each call is a turn.
//
// To wake in milliseconds all the same: a turn that asked our own lock() for one name, and found it held, leaves a native
// waiter for that name. What this acquires is offered to the next turn, for as long as the method takes to return: our own
// lock() answers with it if it is asked for that name. What is not asked for goes back at once.
'use strict';

const { on_abort, reason_of } = require('../telling/abort');
const { key_of, resource_name, wrong_value } = require('../arguments/values');
const { Attempt, join, leave, refuse } = require('./attempt');
const { ask } = require('./pending');
const { run_in } = require('./call');
const { from_native, make_error } = require('../errors');
const log = require('../telling/log');
const { holds } = require('../leases/native');
const overridden = require('./overridden');
const { state_of } = require('../leases/state');
const { clearTimeout, setTimeout } = require('../timers');
const { Turn, give_back, relied_on, run_in_turn, turn_of } = require('./turn');

// Between the end of a turn and the next one, give or take a tenth: many may have begun at once.
const PAUSE = 1000;
// How long the first turn may take beyond the wait's timeout: what is free is had, however short that is.
const GRACE = 5000;
// Waits within a turn of the same instance's wait, within a turn, and so on.
const DEEPEST = 8;
const LONGEST_TIMER = Math.pow(2, 31) - 1;

// What a wait does not end with, if redis was reached before.
const PASSING = ['ERR_REDIS_CONNECTION', 'ERR_REDIS_TIMEOUT', 'ERR_REDIS_REPLY', 'ERR_TOO_FEW_REPLICAS'];

/** Stands in the native queue for a wait. It is not a call of a caller's: nothing but the wait hears of it. */
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

  /** For lines about its own attempts: those of the turns are told instead. */
  run() {}

  start(state) {
    join(state, this);
    try {
      ask(this, (number) => {
        this.made.native.wait_until_lock(this.name, number, state.id, undefined);
        this.number = number;
      });
    } catch (error) {
      leave(state, this);
      throw error;
    }
  }

  stop() {
    if (this.wait === null) return;
    this.wait = null;
    leave(state_of(this.instance), this);
    if (this.number !== -1) this.made.native.cancel_wait(this.name, this.number);
  }

  acquired(handle, val) {
    const { name, made, wait } = this;
    const offer = { name, made, handle, val };
    this.number = -1;
    if (wait === null || wait.turn !== null) give_back(offer);
    else wait.run(take_turn, wait, offer);
    // From here on a later turn may begin to watch again.
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

  /** The instance has come to hold the name by another call, so the next turn finds that it has what it waits for. */
  had() {
    if (this.wait.turn === null) this.wait.run(take_turn, this.wait, null);
  }
}

class WaitByCalling extends Attempt {
  constructor(instance, resource, callback) {
    super('wait_until_lock', instance, resource, callback);
    // The turn that has no answer yet.
    this.turn = null;
    this.depth = 0;
    this.waker = null;
    // Whether redis has answered to it.
    this.has_reached = false;
    // Whether it takes more than one name by our own lock(), or has taken one and was not content: then that the instance
    // holds a name is not to say that it has what it waits for.
    this.is_doubtful = false;
    // Whether the method has answered.
    this.has_tried = false;
    // The key that it took, or tried, in the last turn that was about one; undefined before that.
    this.tried_key = undefined;
    this.timer = null;
    this.deadline = null;
    // The timeout, once it has passed during the first turn.
    this.late = undefined;
    this.abort = null;
  }

  get bare() {
    return false;
  }

  /** Each time in a child of its context: what a turn makes of it is nothing to the next one. */
  run(code, first, second, third) {
    run_in(this.scope, code, first, second, third);
  }

  start(timeout, signal) {
    const outer = turn_of(state_of(this.instance));
    this.depth = outer === null ? 0 : outer.wait.depth + 1;
    if (this.depth > DEEPEST) {
      throw wrong_value(
        'lock is overridden by a method that calls wait_until_lock, which waits by calling lock: that has no end. ' +
          'Let it call the inherited lock.',
      );
    }
    try {
      // Only for lines: what it is called in redis is the method's business.
      this.name = resource_name(this.resource);
    } catch (_) {
      // It may be something that only the method can name.
    }
    if (signal !== undefined) {
      this.abort = { signal, forget: on_abort(signal, () => this.run(give_up, this)) };
      if (signal.aborted) {
        this.later(give_up, this);
        return;
      }
    }
    if (timeout < Infinity) this.expire_in(timeout, timeout);
    take_turn(this, null);
  }

  /** There is always this timer, so a wait keeps the process alive, whatever the method does. */
  pause() {
    clearTimeout(this.timer);
    this.timer = setTimeout(
      () => {
        if (this.turn === null) this.run(take_turn, this, null);
        else this.pause();
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

  /** Nothing of it is left. Returns whether it is the first to say so. */
  end() {
    if (this.answered) return false;
    clearTimeout(this.timer);
    clearTimeout(this.deadline);
    if (this.abort !== null) this.abort.forget();
    this.unwatch();
    return true;
  }
}

function take_turn(wait, offer) {
  const state = state_of(wait.instance);
  const turn = new Turn(wait, state, offer);
  wait.turn = turn;
  wait.pause();
  let has_returned = false;
  const answer = (error, value) => {
    if (has_returned) wait.run(finish, turn, error, value);
    else wait.later(finish, turn, error, value);
  };
  run_in_turn(turn, () => overridden.ask(wait.instance, 'lock', [wait.resource], answer));
  has_returned = true;
  if (turn.offer === null) return;
  give_back(turn.offer);
  turn.offer = null;
  turn.has_wasted = true;
}

/** The method has answered. */
function finish(turn, error, value) {
  const { wait, asked, name, state } = turn;
  turn.is_over = true;
  if (wait.answered) return;
  wait.turn = null;
  wait.has_tried = true;
  if (name !== undefined) wait.tried_key = key_of(name, state.settings.key_prefix);
  wait.has_reached = wait.has_reached || Array.from(asked.values()).some((outcome) => outcome !== undefined);
  if (error !== null && !is_passing(turn, error)) {
    fail(wait, error);
    return;
  }
  const outcome = asked.get(name);
  // 0.4.0 looked at no value: a method may leave it out.
  const has_it = value === undefined ? outcome === true : Boolean(value);
  const had_it = outcome === false && !wait.is_doubtful && holds(state, name);
  const { instance, resource } = wait;
  if (error === null) log.info(instance, 'reservation-attempt', { resource, lock_status: has_it });
  if (error === null && (has_it || had_it)) {
    const key = name === undefined ? undefined : wait.tried_key;
    if (!has_it) relied_on.add(state.get(key));
    succeed(wait, key);
    return;
  }
  wait.is_doubtful = wait.is_doubtful || asked.size > 1 || outcome === true;
  rest(turn, error);
}

/** Until the next turn. */
function rest(turn, error) {
  const { wait, asked, name, state } = turn;
  wait.pause();
  // It wakes for what this turn found held. Of an outage the native side knows whether it is one to wait out. What was
  // wasted would be so again, at any rate: then a pause is all there is.
  const is_known = name !== undefined && (asked.get(name) === false || error !== null);
  if (wait.late !== undefined) {
    expire(wait, wait.late);
  } else if (is_known && !turn.has_wasted) {
    try {
      wait.watch(name, state.made);
    } catch (thrown) {
      fail(wait, from_native(thrown));
    }
  } else {
    wait.unwatch();
  }
}

/** Whether an error is none to end the wait with. */
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
  // What our own lock() has to say of it, it has said.
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

/** Ends a wait beside a turn that may have no answer yet: what it has taken, or takes from now on, goes back. */
function abandon(wait, answer) {
  const { turn } = wait;
  answer();
  if (turn !== null) turn.give_back_all();
}

module.exports = { WaitByCalling };
