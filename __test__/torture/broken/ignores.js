// A "lock" that never asks redis, for the tests of the checker.
'use strict';

const { EventEmitter } = require('node:events');

class Ignores extends EventEmitter {
  #held = new Set();

  lock(resource, done) {
    this.#held.add(resource);
    return answer(true, done);
  }

  wait_until_lock(resource, options, done = options) {
    this.#held.add(resource);
    return answer(`reservation-${resource}`, typeof done === 'function' ? done : undefined);
  }

  release(resource, done = resource) {
    const count = typeof resource === 'string' ? Number(this.#held.delete(resource)) : this.#held.size;
    if (typeof resource !== 'string') this.#held.clear();
    return answer(count, typeof done === 'function' ? done : undefined);
  }

  ensure_reservation(done) {
    return answer(undefined, done);
  }

  is_held(resource) {
    return this.#held.has(resource);
  }
}

function answer(value, done) {
  if (!done) return new Promise((resolve) => setImmediate(resolve, value));
  setImmediate(done, null, value);
  return undefined;
}

module.exports = Ignores;
