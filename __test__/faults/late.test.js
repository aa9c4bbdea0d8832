// Renewals that reach redis late, from a dead connection: they shorten no lease that counts as certain. Redis only ever
// lengthens a ttl; a shorter ttl applies to our own lease.
'use strict';

const assert = require('node:assert/strict');
const { test } = require('node:test');
const { commandCalls } = require('../support/commands');
const { patient, scriptFor } = require('../support/faults');
const { startProxy } = require('../support/proxy');
const { makeReservation, keepLosses } = require('../support/reservation');
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
  await Promise.all(names.map((name) => holder.lock(name)));
  return { server, client: server.client(), proxy, holder, losses };
}

/** Lets the late extends of all three run. Resolves when they have run. */
async function deliver(held, client) {
  const before = (await commandCalls(client)).evalsha;
  held.deliver();
  await until(async () => (await commandCalls(client)).evalsha >= before + names.length, {
    ...patient,
    what: 'the late extends',
  });
}

/** No other instance can acquire the locks, neither by a lock nor by a wait that outlasts the shorter ttl. */
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

/** Renewals with a ttl of two seconds that the proxy holds back, and whose failure the holder knows. */
const lateRenewals = {
  'an ensure_reservation': {
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
  test(`${who} with a shorter ttl runs after one with a longer ttl: the keys outlast the lease`, async (t) => {
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
