// A lock written in ten minutes: SET NX, a timer that renews, a DEL; it compares no value and checks no result.
'use strict';

const crypto = require('node:crypto');
const { EventEmitter } = require('node:events');
const { setTimeout: sleep } = require('node:timers/promises');
const Redis = require('ioredis');

const clients = new Map();

class Naive extends EventEmitter {
  #held = new Map(); // resource -> the timer that renews it
  #client;
  #ttl;

  constructor(by, host, port, interval, ttl) {
    super();
    this.by = by;
    this.#ttl = ttl * 1000;
    if (!clients.has(port)) clients.set(port, connect(host, port));
    this.#client = clients.get(port);
  }

  lock(resource, done) {
    return either(this.#take(resource), done);
  }

  async #take(resource) {
    const key = `reservation-${resource}`;
    this._reserve_val = `${this.by}-${process.pid}-${crypto.randomBytes(16).toString('hex')}`;
    if ((await this.#client.set(key, this._reserve_val, 'PX', this.#ttl, 'NX')) === null) return false;
    const renew = () => this.#client.pexpire(key, this.#ttl).catch(() => {});
    this.#held.set(resource, setInterval(renew, this.#ttl / 3));
    return true;
  }

  wait_until_lock(resource, options, done = options) {
    const { timeout = Infinity, signal } = typeof options === 'object' ? options : {};
    return either(this.#wait(resource, timeout, signal), typeof done === 'function' ? done : undefined);
  }

  async #wait(resource, timeout, signal) {
    const end = Date.now() + timeout;
    while (!(await this.#take(resource))) {
      if (signal && signal.aborted) throw signal.reason;
      if (Date.now() >= end) throw new Error('waited long enough');
      await sleep(100);
    }
    return `reservation-${resource}`;
  }

  release(resource, done = resource) {
    const all = typeof resource === 'string' ? [resource] : [...this.#held.keys()];
    return either(this.#free(all), typeof done === 'function' ? done : undefined);
  }

  async #free(resources) {
    const held = resources.filter((resource) => this.#held.has(resource));
    for (const resource of held) {
      clearInterval(this.#held.get(resource));
      this.#held.delete(resource);
    }
    await Promise.all(held.map((resource) => this.#client.del(`reservation-${resource}`)));
    return held.length;
  }

  ensure_reservation(done) {
    return either(Promise.resolve(), done);
  }

  is_held(resource) {
    return this.#held.has(resource);
  }
}

function connect(host, port) {
  const client = new Redis({ host, port, retryStrategy: () => 50 });
  // It keeps no process alive, so that runs can end.
  client.on('connect', () => client.stream.unref());
  return client.on('error', () => {});
}

function either(promise, done) {
  if (!done) return promise;
  promise.then((value) => done(null, value), done);
  return undefined;
}

module.exports = Naive;
