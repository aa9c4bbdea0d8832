// One call of a caller's: where its answer goes (callback or promise), in which async context everything that
// belongs to it runs, and what happens when the caller's own code throws there.
'use strict';

const { AsyncResource } = require('async_hooks');
const { wrong_type } = require('../arguments/values');
const { describe, place } = require('../errors');
const { next_tick, setImmediate } = require('../timers');

/** An async context. It keeps no process alive: what looks for that which does, such as jest, may ask it. */
class Scope extends AsyncResource {
  hasRef() {
    return false;
  }
}

class Call {
  constructor(name, callback) {
    // Made by the call itself: a queue shared by many calls would run everything in the context of its first one.
    // It is left to the collector, not destroyed by hand: a lease may need it long after the answer.
    this.scope = new Scope(`redis-reservation.${name}`);
    // The callback, or what resolves the promise; null from the answer on.
    this.answer = null;
    // Undefined where there is a callback.
    this.promise = undefined;
    if (typeof callback === 'function') {
      this.answer = callback;
      return;
    }
    this.promise = new Promise((resolve) => {
      this.answer = resolve;
    });
    if (callback != null) {
      const message = `the callback of ${name} must be a function; it is ${describe(callback)}. Leave it out for a promise.`;
      this.fail(place(wrong_type(message)));
    }
  }

  get answered() {
    return this.answer === null;
  }

  /**
   * Whether code as old as 0.4.0 makes such a call without looking at what it returns: a rejection that nobody awaits
   * must not end such a process.
   */
  get bare() {
    return true;
  }

  /** Runs code in the context of the call. */
  run(code, first, second, third, fourth) {
    this.scope.runInAsyncScope(guarded, undefined, code, first, second, third, fourth);
  }

  /** The same, later, for what is already known when the call is made: no answer comes before the call returned. */
  later(code, first, second, third) {
    later_in(this.scope, code, first, second, third);
  }

  /**
   * Success: the callback gets (null, value), or (null) where there is none, the promise the value. Only the first answer
   * counts. To be called within `run` or `later`, so that the callback is in its context already.
   */
  succeed(value) {
    const { answer } = this;
    if (answer === null) return;
    this.answer = null;
    if (this.promise === undefined) call_back(answer, null, value);
    else answer(value);
  }

  /** Failure, likewise. */
  fail(error) {
    const { answer } = this;
    if (answer === null) return;
    this.answer = null;
    if (this.promise === undefined) {
      call_back(answer, error);
      return;
    }
    // By the function that resolves: one that rejects, kept beside it, would be 64 bytes more for each who waits.
    answer(rejection(this, error));
  }
}

/**
 * A promise that will be rejected, for that of a call to follow. In a reaction of a promise V8 can tell which async functions
 * await what comes of it, as long as nothing else does. So the caller's line gets into the stack of a failure, and calls
 * that succeed pay nothing for it. Two reactions from now, for by then the call's promise follows this one.
 */
function rejection({ promise, bare }, error) {
  return Promise.resolve()
    .then(ignore)
    .then(function answered() {
      place(error);
      // Handled, before there is anything to handle.
      if (bare) promise.catch(ignore);
      throw error;
    });
}

/**
 * Runs code in an async context in which more is to run: in a child of it, since what the code makes of its context
 * (`enterWith`) is nothing to what comes after. What it throws is thrown again from a tick of its own, made inside that context:
 * domains and AsyncLocalStorage see whose it is, and whatever else is being delivered goes on.
 */
function run_in(scope, code, first, second, third, fourth) {
  scope.runInAsyncScope(in_child, undefined, code, first, second, third, fourth);
}

function in_child(code, first, second, third, fourth) {
  const child = new Scope('redis-reservation.event');
  child.runInAsyncScope(guarded, undefined, code, first, second, third, fourth);
}

function later_in(scope, code, first, second, third) {
  setImmediate(() => run_in(scope, code, first, second, third));
}

/** Runs code of ours. This happens some times an operation, so no list is made of the parameters. */
function guarded(code, first, second, third, fourth) {
  try {
    code(first, second, third, fourth);
  } catch (error) {
    next_tick(rethrow, error);
  }
}

/** Calls a function of the caller's, with no more arguments than it is to see. */
function call_back(callback, error, value) {
  try {
    if (value === undefined) callback(error);
    else callback(error, value);
  } catch (thrown) {
    next_tick(rethrow, thrown);
  }
}

function rethrow(error) {
  throw error;
}

function ignore() {}

module.exports = { Call, guarded, run_in, later_in, rethrow };
