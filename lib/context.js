// One call of a caller's: where its answer goes (callback or promise), in which async context everything that
// belongs to it runs, and what happens when the caller's own code throws there.
'use strict';

const { AsyncResource } = require('async_hooks');
const { wrong_type } = require('./arguments');
const { describe } = require('./errors');

class Call {
  /**
   * `name` is the method's. `bare` methods are called without looking at what they return by code as old as 0.4.0:
   * a rejection that nobody awaits must not end such a process.
   */
  constructor(name, callback, bare) {
    // Made by the call itself: a queue shared by many calls would run everything in the context of its first one.
    // It is left to the collector, not destroyed by hand: a lease may need it long after the answer.
    this.scope = new AsyncResource(`redis-reservation.${name}`);
    this.answered = false;
    this.callback = null;
    this.promise = undefined;
    this.resolve = null;
    this.reject = null;
    if (typeof callback === 'function') {
      this.callback = callback;
      return;
    }
    this.promise = new Promise((resolve, reject) => {
      this.resolve = resolve;
      this.reject = reject;
    });
    if (bare) this.promise.catch(ignore);
    if (callback != null) {
      this.answered = true;
      this.reject(
        wrong_type(
          `the callback of ${name} must be a function; it is ${describe(callback)}. Leave it out for a promise.`,
        ),
      );
    }
  }

  /** Runs code in the context of the call. */
  run(code, ...parameters) {
    return run_in(this.scope, code, ...parameters);
  }

  /** The same, later, for what is already known when the call is made: no answer comes before the call returned. */
  later(code, ...parameters) {
    later_in(this.scope, code, ...parameters);
  }

  /**
   * Success: the callback gets (null, ...values), the promise the first value. Only the first answer counts. To be called
   * within `run` or `later`, so that the callback is in its context already.
   */
  succeed(...values) {
    if (this.answered) return;
    this.answered = true;
    if (this.callback === null) this.resolve(values[0]);
    else guarded(this.callback, [null, ...values]);
  }

  /** Failure, likewise. */
  fail(error) {
    if (this.answered) return;
    this.answered = true;
    if (this.callback === null) this.reject(error);
    else guarded(this.callback, [error]);
  }
}

/**
 * Runs code in an async context. What it throws is thrown again from a tick of its own, made inside that context: domains
 * and AsyncLocalStorage see whose it is, and whatever else is being delivered goes on.
 */
function run_in(scope, code, ...parameters) {
  return scope.runInAsyncScope(guarded, undefined, code, parameters);
}

function later_in(scope, code, ...parameters) {
  setImmediate(() => run_in(scope, code, ...parameters));
}

// The context that was kept last.
let kept = null;

// Other runtimes keep what belongs to a context where it cannot be compared.
const { bun, deno } = process.versions;
const is_node = bun === undefined && deno === undefined;

/** A context for keeps: one that tells nothing else than the last one is that one, for there may be many leases. */
function shared(scope) {
  if (!is_node) return scope;
  if (kept === null || !tells_the_same(scope, kept)) kept = scope;
  return kept;
}

/**
 * Whether two contexts were made by the same code run and hold the same stores, domain and whatever else was attached to
 * them. Their own numbers aside, all of it is in properties.
 */
function tells_the_same(one, other) {
  const names = Reflect.ownKeys(one);
  if (names.length !== Reflect.ownKeys(other).length || one.triggerAsyncId() !== other.triggerAsyncId())
    return false;
  const id = one.asyncId();
  return names.every(
    (name) => one[name] === other[name] || (one[name] === id && other[name] === other.asyncId()),
  );
}

function guarded(code, parameters) {
  try {
    return code(...parameters);
  } catch (error) {
    process.nextTick(rethrow, error);
    return undefined;
  }
}

function rethrow(error) {
  throw error;
}

function ignore() {}

/** As run_in, for what belongs to no call that is known here. */
function run_guarded(code, ...parameters) {
  return guarded(code, parameters);
}

module.exports = { Call, run_in, later_in, run_guarded, rethrow, shared };
