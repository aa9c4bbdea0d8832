// One call of a caller's: where its answer goes (callback or promise), in which async context everything that
// belongs to it runs, and what happens when the caller's own code throws there.
'use strict';

const { AsyncResource } = require('async_hooks');
const { wrong_type } = require('./arguments');
const { describe } = require('./errors');

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
      this.fail(
        wrong_type(
          `the callback of ${name} must be a function; it is ${describe(callback)}. Leave it out for a promise.`,
        ),
      );
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
    // Handled, before there is anything to handle.
    if (this.bare) this.promise.catch(ignore);
    // By the function that resolves: one that rejects, kept beside it, would be 64 bytes more for each who waits.
    answer(Promise.reject(error));
  }
}

/**
 * Runs code in an async context that others may have too: in a child of it, since what the code makes of its context
 * (`enterWith`) is nothing to the others. What it throws is thrown again from a tick of its own, made inside that context:
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

// The context that was kept last, and the names of what it tells. No code of a caller's ever runs in it itself.
let kept = null;
let kept_names = [];

// Other runtimes keep what belongs to a context where it cannot be compared.
const { bun, deno } = process.versions;
const is_node = bun === undefined && deno === undefined;

/** A context for keeps: one that tells nothing else than the last one is that one, for many leases and waits may be. */
function shared(scope) {
  if (!is_node) return scope;
  if (kept === null || !tells_what_is_kept(scope)) {
    const triggerAsyncId = scope.triggerAsyncId();
    kept = scope.runInAsyncScope(() => new Scope('redis-reservation.kept', { triggerAsyncId }));
    kept_names = Reflect.ownKeys(kept);
  }
  return kept;
}

/**
 * Whether a context was made by the same code run as what is kept, and holds the same stores, domain and whatever else was
 * attached to it. Their own numbers aside, all of it is in properties.
 */
function tells_what_is_kept(scope) {
  if (scope.triggerAsyncId() !== kept.triggerAsyncId()) return false;
  if (Reflect.ownKeys(scope).length !== kept_names.length) return false;
  const id = scope.asyncId();
  return kept_names.every(
    (name) =>
      Object.prototype.hasOwnProperty.call(scope, name) &&
      (scope[name] === kept[name] || (scope[name] === id && kept[name] === kept.asyncId())),
  );
}

/** Runs code of ours. This happens some times an operation, so no list is made of the parameters. */
function guarded(code, first, second, third, fourth) {
  try {
    code(first, second, third, fourth);
  } catch (error) {
    process.nextTick(rethrow, error);
  }
}

/** Calls a function of the caller's, with no more arguments than it is to see. */
function call_back(callback, error, value) {
  try {
    if (value === undefined) callback(error);
    else callback(error, value);
  } catch (thrown) {
    process.nextTick(rethrow, thrown);
  }
}

function rethrow(error) {
  throw error;
}

function ignore() {}

module.exports = { Call, guarded, run_in, later_in, rethrow, shared };
