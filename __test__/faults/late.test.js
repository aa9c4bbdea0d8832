// Renewals that reach redis late, from a connection that is long dead: they take nothing from a lease that counts as
// certain. Redis is only ever asked to lengthen; a shorter ttl is a matter of our own lease.
'use strict';

const assert = require('node:assert/strict');
const { test } = require('node:test');
const { commandCalls } = require('../support/commands');
const { patient, scriptFor } = require('../support/faults');
const { startProxy } = require('../support/proxy');
const { makeReservation, ask, keepLosses } = require('../support/reservation');
const { startServer } = require('../support/server');
const { until, within } = require('../support/wait');

const names = ['a', 'b', 'c'];
const keys = names.map((name) => `reservation-${name}`);
const leftOf = (client) => Promise.all(keys.map((name) => client.pttl(name)));

/** Three locks of 30 s through a proxy. */
async function setUp(t, settings = {}) {
  const server = await startServer(t);
  const proxy = await startProxy(t, server);
  const holder = makeReservation(t, proxy, { interval: Infinity, ttl: 30, ...settings });
  const losses = keepLosses(holder);
  for (const name of names) await holder.lock(name);
  return { server, client: server.client(), proxy, holder, losses };
}

/** Lets the late extends of all three run, and comes back when they have. */
async function deliver(held, client) {
  const before = (await commandCalls(client)).evalsha;
  held.deliver();
  await until(async () => (await commandCalls(client)).evalsha >= before + names.length, {
    ...patient,
    what: 'the late extends',
  });
}

/** Nobody else gets the locks, neither by asking nor by waiting for longer than the shorter ttl. */
async function assertExclusive(t, server, holder) {
  const other = makeReservation(t, server, { by: 'other' });
  const waits = names.map((name) => other.wait_until_lock(name, { timeout: 2500 }).catch(({ code }) => code));
  for (const name of names) assert.equal(await other.lock(name), false, name);
  assert.deepEqual(
    await within(20000, Promise.all(waits)),
    names.map(() => 'ERR_RESERVATION_TIMEOUT'),
  );
  assert.equal(holder.held, true);
}

/** Renewals of two seconds that get no further than the proxy, of which the holder knows that they failed. */
const lateRenewals = {
  'a renewal that was asked for': {
    async hold({ proxy, holder }) {
      const held = proxy.holdRequest(scriptFor(keys[0]));
      const renewing = holder.ensure_reservation();
      await within(10000, held.caught, 'the renewal');
      await within(10000, renewing);
      return held;
    },
  },
  'a heartbeat': {
    interval: 500,
    async hold({ proxy, holder }) {
      await holder.ensure_reservation();
      const held = proxy.holdRequest(scriptFor(keys[0]));
      await within(10000, held.caught, 'a heartbeat');
      return held;
    },
  },
};

for (const [who, { interval = Infinity, hold }] of Object.entries(lateRenewals)) {
  test(`${who}, of a shorter ttl, runs after one of a longer: the keys keep what the lease needs`, async (t) => {
    const all = await setUp(t, { interval });
    const { server, client, holder, losses } = all;
    holder.lock_ttl = 2;
    const held = await hold(all);
    holder.lock_ttl = 30;
    await holder.ensure_reservation();
    await deliver(held, client);
    const left = await leftOf(client);
    assert.ok(
      left.every((ms) => ms > 20000),
      `ms left: ${left}`,
    );
    await assertExclusive(t, server, holder);
    assert.deepEqual(losses, []);
    assert.equal(await holder.release(), names.length);
  });
}

test('a shorter ttl ends our lease, not the key; what is over is deleted', async (t) => {
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
  // Long before the ttl that redis has.
  await until(async () => (await client.exists(...keys)) === 0, { timeout: 10000, what: 'free keys' });
  assert.deepEqual(await ask((done) => holder.release(done)), [null, 0]);
});

test('a ttl that goes up and down again and again: redis keeps the longest, and the lease goes by the last', async (t) => {
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
