// The life of one reservation object in a torture run: it acquires locks in every possible way, uses them, releases them or
// dies with them, and records each call, each answer, each loss and each look at `held`.
'use strict';

const { setTimeout: sleep } = require('node:timers/promises');
const { now } = require('./clock');
const { writeGuarded } = require('./section');

/** An unchanged lease is recorded again after so many ms. */
const RECORD_AGAIN = 100;

class Instance {
  constructor(worker, number) {
    this.worker = worker;
    this.record = worker.record;
    this.name = `${worker.settings.name}.i${number}`;
    this.number = number;
    this.random = worker.random.fork(number);
    this.calls = 0;
    this.holds = new Map(); // key -> what is held, by the answers so far
    this.sleeping = null;
    this.settings = this.chooseSettings();
    this.reservation = this.makeReservation();
  }

  chooseSettings() {
    const { random, number } = this;
    // A long ttl with a short command_timeout shows whether the key of a failed call is deleted, or only lapses.
    const [ttl, patience] = random.pick([[1200], [1200], [2000], [2000], [3000], [6000, 300]]);
    // The first one of each process has no listener: its losses are uncaught exceptions.
    const hears = number > 0;
    // Without renewals, nothing is thrown by contract.
    const interval =
      hears && random.chance(0.1) ? Infinity : random.pick([undefined, 100, Math.floor(ttl / 4)]);
    return { ttl, patience, hears, interval };
  }

  makeReservation() {
    const { ReserveResource, settings } = this.worker;
    const { ttl, patience, hears, interval } = this.settings;
    const options = { connect_timeout: 1000, ...(patience && { command_timeout: patience }) };
    const reservation = new ReserveResource(
      this.name,
      settings.host,
      settings.port,
      interval,
      ttl / 1000,
      false,
      '',
      options,
    );
    if (hears) reservation.on('lost', (error) => this.told(error, 'event'));
    return reservation;
  }

  async live() {
    const { worker, random } = this;
    while (!worker.draining) {
      const key = random.pick(worker.settings.keys);
      if (!(await this.acquire(key))) {
        await this.pause(random.between(5, 100));
        continue;
      }
      if (random.chance(0.25)) {
        const second = random.pick(worker.settings.keys);
        if (second !== key)
          await this.ask('lock', { key: second }, (done) => this.reservation.lock(second, done));
      }
      await this.use();
      await this.giveBack();
    }
  }

  /** True if the key is ours. */
  async acquire(key) {
    const { random, reservation } = this;
    const way = random.weighted({ lock: 4, wait: 3, timeout: 4, abort: 3 });
    if (way === 'lock') {
      return this.ask('lock', { key }, (done) => reservation.lock(key, done));
    }
    if (way === 'wait') {
      return this.ask('wait', { key }, (done) => reservation.wait_until_lock(key, done));
    }
    if (way === 'timeout') {
      const timeout = random.pick([0, random.between(1, 300), random.between(300, 4000)]);
      return this.ask('wait', { key, timeout }, (done) =>
        reservation.wait_until_lock(key, { timeout }, done),
      );
    }
    const controller = new AbortController();
    const op = this.nextName();
    const timer = setTimeout(
      () => {
        this.record('abort', { op });
        controller.abort();
      },
      random.between(0, 1500),
    );
    const { signal } = controller;
    const got = await this.ask('wait', { op, key }, (done) =>
      reservation.wait_until_lock(key, { signal }, done),
    );
    clearTimeout(timer);
    return got;
  }

  nextName() {
    this.calls += 1;
    return `${this.name}.${this.calls}`;
  }

  /**
   * Makes a call that may acquire a key, with a callback or a promise, and records each of its answers. The value of the key
   * begins with the name of the call, so redis's side of the history shows whose value it is.
   */
  async ask(kind, { op = this.nextName(), key, ...details }, start) {
    this.reservation.by = op;
    const { ttl, patience, interval } = this.settings;
    const { error, value } = await this.call(
      op,
      kind,
      { key, ttl, patience, renews: interval !== Infinity, ...details },
      start,
      {
        onAnswer: (got, answer) => {
          if (got || answer === false || this.holds.has(key)) return {};
          const { _reserve_val: val } = this.reservation;
          const hold = { op, key, val, seen: undefined, recorded: 0 };
          this.holds.set(key, hold);
          this.sample(hold);
          return { val };
        },
      },
    );
    return !error && value !== false;
  }

  /** One call of any kind. Resolves with its first answer. */
  call(op, kind, details, start, { onAnswer = () => ({}), afterCall = () => {} } = {}) {
    return new Promise((resolve) => {
      const answer = (error, value) => {
        const t = now();
        const more = onAnswer(error, value);
        this.record('answer', { op, ...describe(error, value), ...more }, t);
        resolve({ error, value });
      };
      this.record('call', { op, kind, ...details });
      if (this.random.chance(0.5)) start((error, value) => answer(error, value));
      else start().then((value) => answer(null, value), answer);
      afterCall();
    });
  }

  async use() {
    const { random, worker } = this;
    const ttl = Math.min(this.settings.ttl, 3000);
    const how = random.weighted({ pass: 4, write: 8, long: 1.5, renew: 1.5, block: 0.4, die: 0.3 });
    if (how === 'die') {
      await this.pause(random.between(0, 300));
      if (!worker.draining) worker.die(random.pick(['exit', 'kill']));
    }
    if (how === 'block') worker.block(random.between(50, 1.5 * ttl));
    if (how === 'renew') await this.renew();
    if (how === 'pass') return;
    const end = now() + (how === 'long' ? random.between(0.8 * ttl, 2.5 * ttl) : 0);
    do {
      for (const hold of [...this.holds.values()]) await writeGuarded(this, hold);
      if (how === 'long') await this.pause(random.between(0, 300));
    } while (now() < end && !worker.draining && this.holds.size > 0);
  }

  async renew() {
    const asks = this.heldOps();
    const { error } = await this.call(this.nextName(), 'renew', { asks, ...this.limits }, (done) =>
      this.reservation.ensure_reservation(done),
    );
    this.forget((error && error.lost) || []);
  }

  /** Releases what is held: one by one, all together, or twice at once; again where redis was unreachable. */
  async giveBack() {
    for (let attempt = 1; attempt <= 6 && this.holds.size > 0; attempt += 1) {
      const way = this.random.weighted({ single: 4, all: 3, twice: 2 });
      const keys = way === 'single' ? [...this.holds.keys()] : way === 'all' ? [null] : [null, null];
      const failed = (await Promise.all(keys.map((key) => this.release(key)))).flat();
      // Of two simultaneous releases, one answers 0 for the keys of the other. Only both together show what is left.
      this.forget([...this.holds.keys()].filter((key) => !failed.includes(key)));
      if (this.holds.size > 0) await this.pause(this.random.between(100, 400));
    }
    // Redis was down all that time: the keys lapse.
    this.holds.clear();
  }

  /** One call of release. Resolves with the keys that may have to be released again. */
  async release(key) {
    const holds = key === null ? [...this.holds.values()] : [this.holds.get(key)];
    const asks = holds.map(({ op }) => op);
    const start = (done) =>
      key === null ? this.reservation.release(done) : this.reservation.release(key, done);
    const { error } = await this.call(this.nextName(), 'release', { key, asks, ...this.limits }, start, {
      // From the call on, none of these counts as held.
      afterCall: () => holds.forEach((hold) => this.sample(hold)),
    });
    if (!error) return [];
    this.forget(error.lost || []);
    const all = holds.map((hold) => hold.key);
    return error.failed ? error.failed.map(resourceOf) : error.lost ? [] : all;
  }

  isLossOf(error) {
    return Boolean(
      error && error.code === 'ERR_RESERVATION_LOST' && String(error.val).startsWith(`${this.name}.`),
    );
  }

  /** A loss was reported, but not by the answer to a call. */
  told(error, by) {
    this.record('told', { by, key: error.key, val: error.val, holder: error.holder, code: error.code });
    const name = resourceOf(String(error.key));
    const hold = this.holds.get(name);
    if (hold && hold.val === error.val) this.forget([name]);
  }

  forget(keys) {
    for (const key of keys) this.holds.delete(resourceOf(key));
  }

  get limits() {
    const { ttl, patience } = this.settings;
    return { ttl, patience };
  }

  heldOps() {
    return [...this.holds.values()].map(({ op }) => op);
  }

  sampleAll() {
    for (const hold of this.holds.values()) this.sample(hold);
  }

  /** Whether the lock is still certain. The time is that before the look: if it is certain now, it was certain then. */
  sample(hold) {
    const t = now();
    const held = this.reservation.is_held(hold.key);
    if (held !== hold.seen || t - hold.recorded >= RECORD_AGAIN) {
      hold.seen = held;
      hold.recorded = t;
      this.record('held', { op: hold.op, held }, t);
    }
    return held;
  }

  /** Sleeps, except after the end of the run. */
  async pause(ms) {
    if (this.worker.draining) return;
    const controller = new AbortController();
    this.sleeping = controller;
    await sleep(ms, undefined, { signal: controller.signal }).catch(() => {});
    this.sleeping = null;
  }

  hurry() {
    if (this.sleeping) this.sleeping.abort();
  }
}

function resourceOf(key) {
  return key.replace(/^reservation-/, '');
}

function describe(error, value) {
  if (!error) return { value };
  const { code, name, message, lost, failed, released } = error;
  return { error: { code: code || name, message, lost, failed, released } };
}

module.exports = { Instance };
