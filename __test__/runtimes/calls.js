// The checks of one process: load, lock, wait, renew, lose and release, with callbacks and with promises.
'use strict';

const { ReserveResource, command, make, sleep, block, same, until } = require('./support');

const checks = {
  async load() {
    same(typeof ReserveResource, 'function', 'the export');
    same(ReserveResource.length, 7, 'its length');
    same(ReserveResource.default, ReserveResource, 'its default');
    same(new ReserveResource('w').by, 'w', 'a field');
  },

  async lock() {
    const reservation = make();
    const answer = await new Promise((resolve) => {
      reservation.lock('lock', (...args) => resolve(args));
    });
    same(JSON.stringify(answer), '[null,true]', 'the answer');
    same(await command('GET', 'reservation-lock'), reservation._reserve_val, 'the key');
    same(reservation.held, true, 'held');
    const second = await new Promise((resolve) => {
      make().lock('lock', (...args) => resolve(args));
    });
    same(JSON.stringify(second), '[null,false]', 'the answer to a second');
    await reservation.release();
  },

  async promise() {
    const reservation = make();
    same(await reservation.lock('promise'), true, 'lock');
    same(await reservation.ensure_reservation(), undefined, 'ensure_reservation');
    same(await reservation.release(), 1, 'release');
    const failure = await reservation.lock({}).catch((error) => error);
    same(failure.code, 'ERR_INVALID_ARG_TYPE', 'the code of a rejection');
    same(failure instanceof ReserveResource.ReservationError, true, 'its class');
  },

  async wait() {
    const [first, second, third] = [make(), make(), make()];
    await first.lock('wait');
    const waiting = second.wait_until_lock('wait');
    await sleep(100);
    await first.release();
    same(await waiting, 'reservation-wait', 'the key');
    // A deletion by another client: only the server can report it.
    second.on('lost', () => {});
    const woken = third.wait_until_lock('wait');
    await sleep(100);
    const start = Date.now();
    await command('DEL', 'reservation-wait');
    same(await woken, 'reservation-wait', 'the key');
    const took = Date.now() - start;
    same(await third.release(), 1, 'release');
    return `woken in ${took} ms`;
  },

  async renew() {
    const reservation = make({ ttl: 2, interval: 300 });
    await reservation.lock('renew');
    block(4000);
    same(reservation.held, true, 'held after 4 s of a blocked event loop with a ttl of 2 s');
    same(await command('GET', 'reservation-renew'), reservation._reserve_val, 'the key');
    await reservation.release();
  },

  async lose() {
    const reservation = make({ interval: 50 });
    await reservation.lock('lose');
    const signal = reservation.signal;
    same(signal !== undefined, typeof AbortController !== 'undefined', 'a signal');
    const losses = [];
    reservation.on('lost', (error) => losses.push(error));
    await command('SET', 'reservation-lose', 'thief');
    await until(() => losses.length > 0, 'the event');
    await sleep(200);
    same(losses.length, 1, 'how often it was reported');
    same(losses[0].code, 'ERR_RESERVATION_LOST', 'the code');
    same(losses[0].holder, 'thief', 'the holder');
    if (signal) same(signal.aborted, true, 'the signal');
    same(reservation.held, false, 'held');
    same(await reservation.release(), 0, 'a release after it');
    return signal ? undefined : 'no AbortController, so no signal';
  },

  async release() {
    const reservation = make();
    await reservation.lock('release-1');
    await reservation.lock('release-2');
    same(await reservation.release('release-1'), 1, 'one');
    same(await command('GET', 'reservation-release-1'), null, 'its key');
    const rest = await new Promise((resolve) => {
      reservation.release((...args) => resolve(args));
    });
    same(JSON.stringify(rest), '[null,1]', 'the rest');
    same(await command('GET', 'reservation-release-2'), null, 'its key');
    same(await reservation.release(), 0, 'of nothing');
  },

  async abort() {
    const reservation = make();
    const other = make();
    await other.lock('abort');
    const timed = await reservation.wait_until_lock('abort', { timeout: 100 }).catch((error) => error);
    same(timed.code, 'ERR_RESERVATION_TIMEOUT', 'the code of a timeout');
    let seen;
    if (typeof AbortController === 'undefined') {
      seen = 'no AbortController: timeout only';
    } else {
      const controller = new AbortController();
      setTimeout(() => controller.abort(), 100);
      const aborted = await reservation
        .wait_until_lock('abort', { signal: controller.signal })
        .catch((error) => error);
      same(aborted.name, 'AbortError', 'the name of the reason');
    }
    await other.release();
    return seen;
  },

  async refused() {
    const reservation = new ReserveResource('probe', '127.0.0.1', 1, 0, 2, false);
    const error = await reservation.lock('refused').catch((failure) => failure);
    same(error.code, 'ERR_REDIS_CONNECTION', 'the code');
  },

  async context() {
    const { AsyncLocalStorage } = require('async_hooks');
    const storage = new AsyncLocalStorage();
    const reservation = make();
    const seen = await new Promise((resolve) => {
      storage.run('of the call', () => reservation.lock('context', () => resolve(storage.getStore())));
    });
    same(seen, 'of the call', 'the store in the callback');
    await reservation.release();
  },

  async many() {
    const reservations = Array.from({ length: 1000 }, () => make());
    const locked = await Promise.all(reservations.map((one, index) => one.lock(`many-${index}`)));
    same(locked.filter(Boolean).length, 1000, 'locked');
    const released = await Promise.all(reservations.map((one) => one.release()));
    same(released.filter((count) => count === 1).length, 1000, 'released');
  },
};

module.exports = checks;
