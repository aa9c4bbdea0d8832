// Renewal where _set_expiration() is overridden by a subclass, a patched instance or a patched prototype. Then that method
// alone renews, called in the same places as by 0.4.0.
'use strict';

const assert = require('node:assert/strict');
const { test } = require('node:test');
const { startChild } = require('./support/child');
const { commandCalls } = require('./support/commands');
const { ReserveResource, makeReservation, ask, keepLog, keepLosses } = require('./support/reservation');
const { startServer } = require('./support/server');
const { until } = require('./support/wait');

const { _set_expiration: ours } = ReserveResource.prototype;

/** The ways to override _set_expiration with `renew(reservation, callback)`. */
const ways = {
  'a subclass': (t, server, settings, renew) => {
    class Own extends ReserveResource {
      _set_expiration(callback) {
        return renew(this, callback);
      }
    }
    return makeReservation(t, server, { ...settings, Class: Own });
  },
  'an instance': (t, server, settings, renew) => {
    const reservation = makeReservation(t, server, settings);
    reservation._set_expiration = (callback) => renew(reservation, callback);
    return reservation;
  },
  'a patched prototype': (t, server, settings, renew) => {
    t.after(() => (ReserveResource.prototype._set_expiration = ours));
    ReserveResource.prototype._set_expiration = function (callback) {
      return renew(this, callback);
    };
    return makeReservation(t, server, settings);
  },
};

for (const [who, make] of Object.entries(ways)) {
  test(`${who}: the method is called at each interval, and only it renews`, async (t) => {
    const server = await startServer(t);
    const client = server.client();
    let calls = 0;
    const reservation = make(t, server, { interval: 200, ttl: 1.5 }, (instance, callback) => {
      calls += 1;
      return ours.call(instance, callback);
    });
    const losses = keepLosses(reservation);
    const start = performance.now();
    await reservation.lock('job');
    await until(() => calls >= 10, { what: 'ten calls' });
    assert.ok(performance.now() - start > 1600, 'longer than the ttl');
    assert.equal(reservation.held, true);
    const { pexpire } = await commandCalls(client);
    assert.ok(pexpire >= 8 && pexpire <= calls + 1, `${pexpire} renewals for ${calls} calls`);
    assert.equal(await reservation.release(), 1);
    assert.deepEqual(losses, []);
  });
}

test('where the method does not renew, the lease ends, which is a loss like any other', async (t) => {
  const server = await startServer(t);
  for (const renew of [
    (_instance, callback) => setImmediate(callback, null, true),
    () => {},
    async () => false,
  ]) {
    const reservation = ways['a subclass'](t, server, { interval: 100, ttl: 1 }, renew);
    const losses = keepLosses(reservation);
    await reservation.lock('job');
    await until(() => losses.length > 0, { what: 'the loss' });
    assert.equal(losses[0].code, 'ERR_RESERVATION_LOST');
    assert.equal(reservation.held, false);
    assert.deepEqual(await ask((done) => reservation.release(done)), [null, 0]);
    assert.equal(losses.length, 1);
  }
});

test('ensure_reservation calls the method once, and takes its error, its promise and its exception', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  const failure = new Error('mine');
  let renew = ours;
  const reservation = ways['a subclass'](t, server, { interval: Infinity }, (instance, callback) =>
    renew.call(instance, callback),
  );
  reservation.on('lost', () => {});
  await assert.rejects(reservation.ensure_reservation(), { code: 'ERR_RESERVATION_NOT_HELD' });
  await reservation.lock('job');
  for (const [does, answer] of [
    [(callback) => callback(null, true), [null]],
    [(callback) => callback(null, false), [null]],
    [(callback) => setImmediate(callback, failure), [failure]],
    [() => Promise.resolve(true), [null]],
    [() => Promise.reject(failure), [failure]],
    [
      () => {
        throw failure;
      },
      [failure],
    ],
    [
      (callback) => {
        callback(null, true);
        callback(failure);
      },
      [null],
    ],
  ]) {
    renew = does;
    assert.deepEqual(await ask((done) => reservation.ensure_reservation(done)), answer);
    const promised = await reservation.ensure_reservation().catch((error) => error);
    assert.equal(promised, answer[0] === null ? undefined : failure);
  }
  renew = ours;
  await client.pexpire('reservation-job', 5000);
  reservation.lock_ttl = 60;
  await reservation.ensure_reservation();
  assert.ok((await client.pttl('reservation-job')) > 50000, 'ours renewed');
  await client.del('reservation-job');
  const [error] = await ask((done) => reservation.ensure_reservation(done));
  assert.deepEqual([error.code, error.key], ['ERR_RESERVATION_LOST', 'reservation-job']);
  assert.equal(await reservation.release(), 0);
});

test('a loss that the method finds is thrown without a listener, as by 0.4.0', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  const code = `
    const ReserveResource = require('./index.js');
    class Own extends ReserveResource {
      _set_expiration(callback) { return super._set_expiration(callback); }
    }
    const { REDIS_HOST, REDIS_PORT } = process.env;
    const reservation = new Own('me', REDIS_HOST, REDIS_PORT, 100, 30, false);
    const seen = [];
    process.on('uncaughtException', (error) => process.send({ thrown: error.code, key: error.key }));
    process.on('unhandledRejection', (error) => process.send({ rejected: error.code }));
    reservation.lock('job', () => process.send({ locked: true }));
    process.on('message', () => process.disconnect());`;
  const child = startChild(t, { code }, { env: server.environment });
  await child.message({ locked: true });
  await client.del('reservation-job');
  assert.deepEqual(await child.message(), { thrown: 'ERR_RESERVATION_LOST', key: 'reservation-job' });
  child.send('go');
  assert.deepEqual(await child.exit(), { code: 0, signal: null });
  assert.equal(child.messages.all.length, 2, 'once');
});

test('instances that renew natively are not affected by one that overrides the method', async (t) => {
  const server = await startServer(t);
  const log = keepLog();
  const settings = { interval: 200, ttl: 1.5 };
  const silent = ways['an instance'](t, server, settings, (_instance, callback) => callback(null, true));
  const losses = keepLosses(silent);
  await silent.lock('silent');
  const native = makeReservation(t, server, { ...settings, log });
  await native.lock('native');
  await until(() => losses.length > 0, { what: 'the loss of the one' });
  assert.equal(native.held, true);
  assert.ok(log.of('reservation-extended').length >= 3);
});
