// Changes of lock_ttl while a lock is held: the ttl that a renewal sets in redis, the length of our lease, the time of its
// renewals, and when its end is reported.
'use strict';

const assert = require('node:assert/strict');
const { test } = require('node:test');
const { commandCalls } = require('./support/commands');
const { patient } = require('./support/faults');
const { startProxy } = require('./support/proxy');
const { makeReservation, ask, keepLosses, connect } = require('./support/reservation');
const { startServer } = require('./support/server');
const { until } = require('./support/wait');

const names = ['a', 'b', 'c'];
const keys = names.map((name) => `reservation-${name}`);
const leftOf = (client) => Promise.all(keys.map((name) => client.pttl(name)));

/** Three locks through a proxy. */
async function setUp(t, settings = {}) {
  const server = await startServer(t);
  const proxy = await startProxy(t, server);
  const holder = makeReservation(t, proxy, { interval: Infinity, ttl: 30, ...settings });
  const losses = keepLosses(holder);
  await Promise.all(names.map((name) => holder.lock(name)));
  return { client: server.client(), proxy, holder, losses };
}

test('a shorter ttl ends our lease, not the key; after the lease the key is deleted', async (t) => {
  const { client, holder, losses } = await setUp(t);
  holder.lock_ttl = 1;
  const start = performance.now();
  await holder.ensure_reservation();
  const left = await leftOf(client);
  assert.ok(
    left.every((ms) => ms > 20000),
    `redis is not asked to shorten: ${left}`,
  );
  await until(() => !holder.held, { ...patient, what: 'the end of the lease' });
  const after = performance.now() - start;
  assert.ok(after > 900, `not before its ttl: ${after} ms`);
  await until(() => losses.length === names.length, { ...patient, what: 'the losses' });
  // Long before the ttl in redis.
  await until(async () => (await client.exists(...keys)) === 0, { timeout: 10000, what: 'free keys' });
  assert.deepEqual(await ask((done) => holder.release(done)), [null, 0]);
});

test('a ttl that is raised and lowered repeatedly: redis keeps the longest, the lease uses the last', async (t) => {
  const { client, holder, losses } = await setUp(t);
  let longest = 30;
  for (const ttl of [5, 60, 4, 90, 3, 120, 2]) {
    holder.lock_ttl = ttl;
    await holder.ensure_reservation();
    longest = Math.max(longest, ttl);
    const left = await leftOf(client);
    assert.ok(
      left.every((ms) => ms > (longest - 10) * 1000),
      `${ttl} s: ${left}`,
    );
    assert.equal(holder.held, true);
  }
  await until(() => !holder.held, { timeout: 10000, what: 'the end of two seconds' });
  await until(() => losses.length === names.length, { ...patient, what: 'the losses' });
  await until(async () => (await client.dbsize()) === 0, { timeout: 10000, what: 'free keys' });
});

for (const [how, { interval, answered }] of Object.entries({
  'by a renewal without an answer': { interval: 20000, answered: false },
  'before a long interval': { interval: 20000, answered: true },
  'without renewals': { interval: Infinity, answered: true },
})) {
  test(`a ttl that is shortened ${how}: the loss is reported at the end of the shorter ttl`, async (t) => {
    const server = await startServer(t);
    const proxy = await startProxy(t, server);
    await connect(t, proxy);
    const options = { command_timeout: 300, connect_timeout: 300 };
    const reservation = makeReservation(t, proxy, { interval, ttl: 60, options });
    const losses = keepLosses(reservation);
    await reservation.lock('job');
    await reservation.lock('other');
    if (!answered) proxy.stall();
    reservation.lock_ttl = 1;
    const start = performance.now();
    const renewing = reservation.ensure_reservation();
    if (answered) await renewing;
    else await assert.rejects(renewing);
    await until(() => !reservation.held, { timeout: 10000, what: 'the end of the lease' });
    assert.ok(performance.now() - start > 900, 'not before its ttl');
    await until(() => losses.length === 2, { timeout: 10000, what: 'the losses' });
    assert.equal(reservation.signal === undefined || reservation.signal.aborted, true);
  });
}

test('after the ttl is shortened, renewals come at a third of the shorter ttl', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  const reservation = makeReservation(t, server, { ttl: 60 });
  const losses = keepLosses(reservation);
  await reservation.lock('job');
  reservation.lock_ttl = 2;
  await reservation.ensure_reservation();
  const { evalsha } = await commandCalls(client);
  await until(async () => (await commandCalls(client)).evalsha >= evalsha + 4, {
    timeout: 10000,
    what: 'four renewals',
  });
  assert.deepEqual([reservation.held, losses], [true, []]);
  assert.equal(await reservation.release(), 1);
});
