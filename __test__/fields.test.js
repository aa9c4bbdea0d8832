// Fields are read when they are used: what a change of each does before, between and during holds; and renewals that a
// subclass or an instance overrides.
'use strict';

const assert = require('node:assert/strict');
const { test } = require('node:test');
const { startChild } = require('./support/child');
const { commandCalls } = require('./support/commands');
const { ReserveResource, makeReservation, ask, keepLog, keepLosses } = require('./support/reservation');
const { startServer } = require('./support/server');
const { until } = require('./support/wait');

test('a password set after construction, or after a refusal, is used', async (t) => {
  const server = await startServer(t, { password: 'right' });
  const reservation = makeReservation(t, server, { password: undefined });
  reservation.password = 'right';
  assert.equal(await reservation.lock('job'), true);
  await reservation.release();

  const other = makeReservation(t, server, { password: 'wrong' });
  await assert.rejects(other.lock('job'), { code: 'ERR_REDIS_AUTH' });
  other.password = 'right';
  assert.equal(await other.lock('job'), true);
});

test('by and identifier can change between calls', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  const reservation = makeReservation(t, server, { by: 'first' });
  await reservation.lock('a');
  reservation.by = 'second';
  reservation.identifier = 'id';
  await reservation.lock('b');
  assert.match(await client.get('reservation-a'), new RegExp(`^first-${process.pid}-[0-9a-f]{32}$`));
  assert.match(await client.get('reservation-b'), /^second-id-[0-9a-f]{32}$/);
  assert.equal(await reservation.release(), 2, 'what is held keeps its value');
});

test('host and port: later calls use them; held locks are renewed and released where they are', async (t) => {
  const [here, there] = [await startServer(t), await startServer(t)];
  const log = keepLog();
  const reservation = makeReservation(t, here, { interval: 200, log });
  const losses = keepLosses(reservation);
  await reservation.lock('here');
  reservation.port = String(there.port);
  await reservation.lock('there');
  assert.deepEqual(await here.client().keys('*'), ['reservation-here']);
  assert.deepEqual(await there.client().keys('*'), ['reservation-there']);
  const extended = (name) => log.of('reservation-extended').filter(({ key }) => key === name).length;
  await until(() => extended('reservation-here') >= 3 && extended('reservation-there') >= 3, {
    what: 'renewals',
  });
  for (const server of [here, there]) assert.ok((await commandCalls(server.client())).pexpire >= 3);
  assert.equal(await reservation.release(), 2);
  for (const server of [here, there]) assert.equal(await server.client().dbsize(), 0);
  assert.deepEqual(losses, []);
});

test('lock_ttl: later locks and ensure_reservation use it', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  const reservation = makeReservation(t, server, { ttl: 30, interval: Infinity });
  await reservation.lock('a');
  reservation.lock_ttl = '300';
  await reservation.lock('b');
  const ttl = async (name) => Math.round((await client.pttl(`reservation-${name}`)) / 30000) * 30;
  assert.deepEqual([await ttl('a'), await ttl('b')], [30, 300]);
  await reservation.ensure_reservation();
  assert.deepEqual([await ttl('a'), await ttl('b')], [300, 300]);
});

test('heartbeat_interval: later locks use it', async (t) => {
  const server = await startServer(t);
  const log = keepLog();
  const reservation = makeReservation(t, server, { interval: Infinity, log });
  await reservation.lock('never');
  reservation.heartbeat_interval = 200;
  await reservation.lock('often');
  await until(() => log.of('reservation-extended').length >= 4, { what: 'renewals' });
  assert.ok(log.of('reservation-extended').every(({ key }) => key === 'reservation-often'));
});

test('an object assigned to logger gets the lines', async (t) => {
  const server = await startServer(t);
  const before = keepLog();
  const reservation = makeReservation(t, server, { log: before });
  const events = [];
  reservation.logger = {
    infoD: (title, data) => events.push([title, data]),
    errorD: (title, data) => events.push([title, data]),
  };
  await reservation.lock('job');
  await reservation.release();
  assert.deepEqual(events, [
    ['reservation-attempted', { resource: 'job', lock_status: true, key: 'reservation-job' }],
    ['reservation-released', { key: 'reservation-job' }],
  ]);
  assert.deepEqual(before.events, []);
});

const overriding = {
  'a subclass with its own ensure_reservation': (count) =>
    class extends ReserveResource {
      ensure_reservation(callback) {
        count(this);
        return super.ensure_reservation(callback);
      }
    },
  'a subclass with its own _ensure_reservation': (count) =>
    class extends ReserveResource {
      _ensure_reservation(callback) {
        count(this);
        return super._ensure_reservation(callback);
      }
    },
  'a subclass that renews nothing itself': (count) =>
    class extends ReserveResource {
      ensure_reservation() {
        count(this);
      }
    },
};

for (const [who, makeClass] of Object.entries(overriding)) {
  test(`${who} is called at each interval, until the release`, async (t) => {
    const server = await startServer(t);
    const calls = [];
    const Class = makeClass((instance) => calls.push({ instance, at: performance.now() }));
    const reservation = makeReservation(t, server, { Class, interval: 300, ttl: 1.5 });
    const losses = keepLosses(reservation);
    const start = performance.now();
    await reservation.lock('job');
    // Longer than the ttl.
    await until(() => calls.length >= 7, { what: 'seven calls' });
    assert.ok(performance.now() - start > 1500, 'not more often than asked for');
    assert.ok(calls.every(({ instance }) => instance === reservation));
    assert.equal(reservation.held, true);
    assert.equal(await reservation.release(), 1);
    const { length } = calls;
    const log = keepLog();
    const clock = makeReservation(t, server, { interval: 300, log });
    await clock.lock('clock');
    await until(() => log.of('reservation-extended').length >= 3, { what: 'three intervals' });
    assert.equal(calls.length, length, 'no more calls');
    assert.deepEqual(losses, []);
  });
}

test('a method assigned to an instance is called at each interval, too', async (t) => {
  const server = await startServer(t);
  const reservation = makeReservation(t, server, { interval: 100 });
  let calls = 0;
  reservation._ensure_reservation = () => {
    calls += 1;
  };
  await reservation.wait_until_lock('job');
  await until(() => calls >= 3, { what: 'three calls' });
  assert.equal(await reservation.release(), 1);
});

test('_set_expiration overridden, with a listener: a loss is reported once', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  const log = keepLog();
  const clock = makeReservation(t, server, { interval: 100, log });
  await clock.lock('clock');
  let told;
  const count = (error) => {
    if (error && error.code === 'ERR_RESERVATION_LOST') told += 1;
  };
  const { ensure_reservation: inherited } = ReserveResource.prototype;
  for (const renew of [(own) => inherited.call(own), (own) => inherited.call(own, count), () => {}]) {
    told = 0;
    const reservation = makeReservation(t, server, { interval: 100 });
    reservation.ensure_reservation = () => renew(reservation);
    reservation.on('lost', count);
    await reservation.lock('job');
    await client.del('reservation-job');
    await until(() => !reservation.held, { what: 'the loss' });
    const before = log.of('reservation-extended').length;
    await until(() => log.of('reservation-extended').length >= before + 4, { what: 'four intervals' });
    assert.deepEqual(await ask((done) => reservation.release(done)), [null, 0]);
    // To the listener, or to the callback of the subclass.
    assert.equal(told, 1);
  }
});

test('_set_expiration overridden: a loss is not thrown, and the timer keeps no process alive', async (t) => {
  const server = await startServer(t);
  const code = `
    const ReserveResource = require('./index.js');
    class Own extends ReserveResource {
      ensure_reservation() {
        // A slow machine calls it again before the first call is answered. The second one then finds nothing held.
        const told = (error) => error && error.code !== 'ERR_RESERVATION_NOT_HELD' && process.send({ code: error.code });
        return super.ensure_reservation(told);
      }
    }
    const { REDIS_HOST, REDIS_PORT } = process.env;
    const reservation = new Own('me', REDIS_HOST, REDIS_PORT, 100, 30, false);
    process.on('uncaughtException', (error) => process.send({ uncaught: error.message }));
    reservation.lock('job', () => process.send({ locked: true }));
    process.on('message', () => {
      const { held } = reservation;
      reservation.release((...args) => process.send({ held, args }, () => process.disconnect()));
    });`;
  const child = startChild(t, { code }, { env: server.environment });
  await child.message({ locked: true });
  await server.client().del('reservation-job');
  assert.deepEqual(await child.message(), { code: 'ERR_RESERVATION_LOST' });
  child.send('release');
  assert.deepEqual(await child.message(), { held: false, args: [null, 0] });
  assert.deepEqual(await child.exit(), { code: 0, signal: null });
  assert.equal(child.stderr, '');

  const idle = `
    const ReserveResource = require('./index.js');
    class Own extends ReserveResource { _ensure_reservation() {} }
    new Own('me', process.env.REDIS_HOST, process.env.REDIS_PORT, 50, 30, false).lock('job');`;
  assert.deepEqual(await startChild(t, { code: idle }, { env: server.environment }).exit(), {
    code: 0,
    signal: null,
  });
});
