// One call: its answer (callback or promise), the async context in which all its code runs, and exceptions of the caller's
// code.
'use strict';

const { AsyncResource } = require('async_hooks');
const { wrong_type } = require('../arguments/values');
const { capture_stack, describe } = require('../errors');
const { next_tick, setImmediate } = require('../timers');

/** An async context. It keeps no process alive, and says so to tools that look for open handles, such as jest. */
class Scope extends AsyncResource {
  hasRef() {
    return false;
  }
}

class Call {
  constructor(name, callback) {
    // One for each call: a queue that many calls share would run everything in the context of its first one.
    // Left to garbage collection, since a lease may need it long after the answer.
    this.scope = new Scope(`redis-reservation.${name}`);
    // The callback, or the promise's resolve function; null once answered.
    this.answer = null;
    // Undefined if there is a callback.
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
      this.fail(capture_stack(wrong_type(message)));
    }
  }

  get answered() {
    return this.answer === null;
  }

  /**
   * Whether a rejection that nobody awaits is not reported as unhandled. True where code for 0.4.0 ignores what the method
   * returns: such a process must not end for it.
   */
  get rejects_silently() {
    return true;
  }

  /** Runs code in the context of the call. */
  run(code, first, second, third, fourth) {
    this.scope.runInAsyncScope(guarded, undefined, code, first, second, third, fourth);
  }

  /** The same, for an answer that is known at once: no callback may run before the method has returned. */
  later(code, first, second, third) {
    later_in(this.scope, code, first, second, third);
  }

  /**
   * Success: the callback gets (null, value), or (null) if value is undefined; the promise gets the value. Only the first
   * answer counts. Call it within `run` or `later`, so that the callback runs in its context.
   */
  succeed(value) {
    const { answer } = this;
    if (answer === null) return;
    this.answer = null;
    if (this.promise === undefined) call_back(answer, null, value);
    else answer(value);
  }

  /** Failure: the callback gets (error), the promise rejects. Otherwise as `succeed`. */
  fail(error) {
    const { answer } = this;
    if (answer === null) return;
    this.answer = null;
    if (this.promise === undefined) {
      call_back(answer, error);
      return;
    }
    // Resolved with a rejected promise: keeping the reject function too would cost 64 bytes for each waiting call.
    answer(rejection(this, error));
  }
}

/**
 * A promise that rejects two microtasks later, when the call's promise already follows it. In a promise reaction, V8 knows
 * which async functions await the result, if nothing else awaits it. So the stack of a failure has the caller's line, and
 * calls that succeed pay nothing for it.
 */
function rejection({ promise, rejects_silently }, error) {
  return Promise.resolve()
    .then(ignore)
    .then(function answered() {
      capture_stack(error);
      // Marked as handled before it rejects.
      if (rejects_silently) promise.catch(ignore);
      throw error;
    });
}

/**
 * Runs code in a child of an async context, so that the code cannot change (`enterWith`) the context of what runs after it.
 * What the code throws is thrown again in a tick of its own in that context: domains and AsyncLocalStorage see whose it is,
 * and the delivery goes on.
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

/** Runs code of ours. It is called several times an operation, so the parameters are spelt out, not collected in an array. */
function guarded(code, first, second, third, fourth) {
  try {
    code(first, second, third, fourth);
  } catch (error) {
    next_tick(rethrow, error);
  }
}

/** Calls the caller's callback, with one argument if there is no value. */
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
