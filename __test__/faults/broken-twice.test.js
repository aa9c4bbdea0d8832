// Connections that break again while the core finds out the result of a lost reply: a call continues over the next
// connection while it has time, and its answer matches what redis holds.
'use strict';

const assert = require('node:assert/strict');
const { test } = require('node:test');
const { commandCalls } = require('../support/commands');
const { startProxy } = require('../support/proxy');
const { makeReservation, ask, keepLosses } = require('../support/reservation');
const { startServer } = require('../support/server');
const { within } = require('../support/wait');

const key = 'reservation-job';

/** A server behind a proxy, and a reservation whose connection through it has lasted long enough to count as good. */
async function setUp(t) {
  const server = await startServer(t);
  const proxy = await startProxy(t, server);
  const client = server.client();
  const reservation = makeReservation(t, proxy, { interval: 60000, ttl: 60 });
  const losses = keepLosses(reservation);
  await reservation.lock('warm-up');
  await reservation.release();
  return { proxy, client, reservation, losses };
}

/** Each of the next requests for the key breaks its connection, before or after redis has run it: `{ left, done }`. */
function breakAt(proxy, times, { isRun }) {
  const breaks = { left: times, done: 0 };
  const arm = () => {
    if (breaks.left === 0) return;
    proxy.set('up', {
      onRequest: {
        matches: (chunk) => chunk.includes(key),
        act: (link) => {
          breaks.left -= 1;
          breaks.done += 1;
          if (!isRun) {
            link.cut(false);
            arm();
            return 'keep';
          }
          link.down.swallow(() => link.cut(false));
          arm();
          return 'forward';
        },
      },
    });
  };
  arm();
  return breaks;
}

/** Each call, whether the lock is held before it, and its answer. */
const calls = {
  'a lock': { start: (one) => one.lock('job'), answer: true },
  'a lock with a callback': { start: (one) => ask((done) => one.lock('job', done)), answer: [null, true] },
  'a wait': { start: (one) => one.wait_until_lock('job'), answer: key },
  'a release': { isHeld: true, start: (one) => one.release(), answer: 1 },
  'a renewal': { isHeld: true, start: (one) => one.ensure_reservation(), answer: undefined },
};

for (const [what, { isHeld = false, start, answer }] of Object.entries(calls)) {
  for (const isRun of [false, true]) {
    test(`${what} whose connection breaks again and again, ${isRun ? 'after' : 'before'} redis runs the command`, async (t) => {
      const { proxy, client, reservation, losses } = await setUp(t);
      for (const times of [1, 2, 3]) {
        if (isHeld) await reservation.lock('job');
        const { set = 0 } = await commandCalls(client);
        const breaks = breakAt(proxy, times, { isRun });
        assert.deepEqual(await within(20000, start(reservation), what), answer);
        assert.equal(breaks.done, times);
        const isReleased = what === 'a release';
        assert.equal(reservation.held, !isReleased);
        assert.equal(await client.get(key), isReleased ? null : reservation._reserve_val);
        if (!isHeld && isRun) {
          assert.equal((await commandCalls(client)).set, set + 1, 'asked what became of it, not tried again');
        }
        await reservation.release();
        assert.equal(await client.dbsize(), 0);
      }
      assert.deepEqual(losses, []);
    });
  }
}

test('a lock that another holds is not acquired, however often the connection breaks', async (t) => {
  const { proxy, client, reservation } = await setUp(t);
  await client.set(key, 'other');
  for (const isRun of [false, true]) {
    const breaks = breakAt(proxy, 3, { isRun });
    assert.equal(await within(20000, reservation.lock('job')), false);
    assert.equal(breaks.done, 3);
  }
  assert.equal(await client.get(key), 'other');
});

test('a hand-over succeeds, however often the connection breaks', async (t) => {
  const { proxy, client, reservation, losses } = await setUp(t);
  const waiter = makeReservation(t, proxy, { by: 'waiter' });
  for (const isRun of [false, true]) {
    await reservation.lock('job');
    const before = (await commandCalls(client)).set;
    const waiting = waiter.wait_until_lock('job', { signal: t.signal });
    waiting.catch(() => {});
    while ((await commandCalls(client)).set === before);
    breakAt(proxy, 2, { isRun });
    assert.equal(await within(20000, reservation.release()), 1);
    assert.equal(await within(20000, waiting), key);
    assert.equal(await client.get(key), waiter._reserve_val);
    assert.equal(await waiter.release(), 1);
    assert.equal(await client.dbsize(), 0);
  }
  assert.deepEqual(losses, []);
});

test('a connection that breaks at every command: an error at the end of the budget, and no key stays', async (t) => {
  const { proxy, client, reservation } = await setUp(t);
  reservation.lock_ttl = 3;
  for (const isRun of [false, true]) {
    const breaks = breakAt(proxy, 100000, { isRun });
    const start = performance.now();
    const [error] = await within(
      20000,
      ask((done) => reservation.lock('job', done)),
    );
    assert.equal(error.code, 'ERR_REDIS_CONNECTION');
    assert.ok(performance.now() - start > 500, `after ${performance.now() - start} ms`);
    assert.ok(breaks.done > 1 && breaks.done < 60, `${breaks.done} tries`);
    breaks.left = 0;
    proxy.heal();
    const waited = await within(20000, reservation.wait_until_lock('job', { timeout: 10000 }));
    assert.equal(waited, key, 'the next call has it');
    assert.equal(await client.get(key), reservation._reserve_val);
    assert.equal(await reservation.release(), 1);
  }
});
