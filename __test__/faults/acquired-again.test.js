// A key that its instance acquires again while the older lease still counts as held: the older one is lost, and told at once.
'use strict';

const assert = require('node:assert/strict');
const { test } = require('node:test');
const { keepLog, keepLosses, makeReservation } = require('../support/reservation');
const { startChild } = require('../support/child');
const { startServer } = require('../support/server');
const { until } = require('../support/wait');

const key = 'reservation-job';

async function setUp(t, options = {}) {
  const server = await startServer(t);
  const reservation = makeReservation(t, server, { interval: 60000, ttl: 180, ...options });
  return { server, client: server.client(), reservation };
}

test('the loss of the older lease is told before the newer one is: event, signal and line', async (t) => {
  const log = keepLog();
  const { client, reservation } = await setUp(t, { log });
  const losses = keepLosses(reservation);
  assert.equal(await reservation.lock('job'), true);
  const { signal, _reserve_val: older } = reservation;
  await client.del(key);
  const told_before = await new Promise((answer) => {
    reservation.lock('job', () => answer(losses.length));
  });
  assert.equal(told_before, 1);
  const newer = reservation._reserve_val;
  const [loss] = losses;
  assert.equal(loss.code, 'ERR_RESERVATION_LOST');
  assert.equal(loss.message, `Worker ${older} lost ${key} to ${newer}`);
  assert.deepEqual([loss.key, loss.val, loss.holder], [key, older, newer]);
  assert.equal(signal.aborted, true);
  assert.equal(signal.reason, loss);
  assert.equal(reservation.signal.aborted, false, 'the newer one has a signal of its own');
  assert.deepEqual(
    log.of('reservation-lost').map((line) => line.val),
    [older],
  );
  assert.equal(reservation.is_held('job'), true);
  assert.equal(await reservation.release(), 1);
  assert.equal(losses.length, 1);
});

test('without a listener it is thrown, once', async (t) => {
  const server = await startServer(t);
  const code = `
    const ReserveResource = require('./index.js');
    const reservation = new ReserveResource('me', process.env.REDIS_HOST, process.env.REDIS_PORT, 60000, 180, false);
    process.on('uncaughtException', ({ code }) => process.send({ uncaught: code, held: reservation.held }));
    process.on('message', () => reservation.lock('job', (error, status) => process.send({ status })));
    reservation.lock('job', () => process.send('locked'));`;
  const child = startChild(t, { code }, { env: server.environment });
  assert.equal(await child.message(), 'locked');
  await server.client().del(key);
  child.send('again');
  assert.deepEqual(await child.message(), { status: true });
  assert.deepEqual(await child.message(), { uncaught: 'ERR_RESERVATION_LOST', held: true });
});

test('a lease that is never renewed: its loss is emitted, and without a listener not thrown', async (t) => {
  const { client, reservation } = await setUp(t, { interval: Infinity });
  const [first, second] = [[], []];
  for (const losses of [first, second]) {
    const listen = (error) => losses.push(error.code);
    if (losses === first) reservation.on('lost', listen);
    assert.equal(await reservation.lock('job'), true);
    const { signal } = reservation;
    await client.del(key);
    // What is thrown fails this test, in the next tick.
    assert.equal(await reservation.lock('job'), true);
    await new Promise((resolve) => setImmediate(resolve));
    assert.equal(signal.aborted, true);
    assert.equal(await reservation.release(), 1);
    reservation.removeListener('lost', listen);
  }
  assert.deepEqual([first, second], [['ERR_RESERVATION_LOST'], []]);
});

test('a renewal that is pending then does not tell it a second time', async (t) => {
  const { client, reservation } = await setUp(t);
  const losses = keepLosses(reservation);
  for (let round = 0; round < 20; round += 1) {
    losses.length = 0;
    assert.equal(await reservation.lock('job'), true);
    await client.del(key);
    const [, renewed] = await Promise.all([
      reservation.lock('job'),
      reservation.ensure_reservation().then(
        () => null,
        (error) => error.code,
      ),
    ]);
    const told = losses.length + (renewed === 'ERR_RESERVATION_LOST' ? 1 : 0);
    assert.equal(told, 1, `told ${losses.length} times, and the renewal gave ${renewed}`);
    assert.equal(await reservation.release(), 1);
  }
});

test('a release that is pending then tells it', async (t) => {
  const { client, reservation } = await setUp(t);
  const losses = keepLosses(reservation);
  assert.equal(await reservation.lock('job'), true);
  await client.del(key);
  const locked = reservation.lock('job');
  await assert.rejects(reservation.release(), { code: 'ERR_RESERVATION_LOST', released: 0 });
  assert.equal(await locked, true);
  assert.equal(losses.length, 0);
  assert.equal(reservation.is_held('job'), true);
  assert.equal(await reservation.release(), 1);
});

for (const who of ['one resource', 'two resources of one instance']) {
  test(`${who}: a failover that brings the older value back leaves no key that nobody can release`, async (t) => {
    const { client, reservation } = await setUp(t, { interval: 1000, ttl: 3 });
    const losses = keepLosses(reservation);
    if (who !== 'one resource') await reservation.lock('other');
    assert.equal(await reservation.lock('job'), true);
    const older = reservation._reserve_val;
    await client.del(key);
    assert.equal(await reservation.lock('job'), true, 'before a renewal has found the loss');
    // As a replica has it that became the master, and had missed both commands.
    await client.set(key, older, 'PX', 3000);
    await until(() => losses.length === 2, { what: 'the loss of the newer one' });
    await until(async () => (await client.exists(key)) === 0, {
      timeout: 10000,
      what: 'the end of the older one',
    });
    assert.equal(reservation.is_held('job'), false);
    assert.equal(await reservation.release(), who === 'one resource' ? 0 : 1);
    assert.equal(losses.length, 2);
    assert.equal(await client.dbsize(), 0);
  });
}
