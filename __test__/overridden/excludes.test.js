// wait_until_lock() where lock() is overridden: it acquires through that method, and wakes within milliseconds if it knows
// the key that the method locks.
'use strict';

const assert = require('node:assert/strict');
const { AsyncLocalStorage } = require('node:async_hooks');
const { test } = require('node:test');
const { commandCalls, countCommands } = require('../support/commands');
const { ReserveResource, makeReservation, ask, keepLog } = require('../support/reservation');
const { startServer } = require('../support/server');
const { until, within } = require('../support/wait');
const { key, ours, tried, ways } = require('./kit');

for (const [who, make] of Object.entries(ways)) {
  test(`${who}: a wait acquires the same key as lock, and excludes others`, async (t) => {
    const server = await startServer(t);
    const client = server.client();
    const [holder, waiter] = [make(t, server), make(t, server)];
    assert.deepEqual(await ask((done) => holder.wait_until_lock('job', done)), [null, key]);
    assert.equal(holder.held, true);
    const waiting = ask((done) => waiter.wait_until_lock('job', { timeout: 20000 }, done));
    await tried(client);
    assert.deepEqual(await client.keys('*'), [key]);
    assert.equal(waiter.held, false);
    await holder.release();
    assert.deepEqual(await within(5000, waiting), [null, key]);
    assert.equal(await client.get(key), waiter._reserve_val);
    assert.equal(await waiter.release(), 1);
    assert.deepEqual(await client.keys('*'), []);
  });
}

test('a patched prototype of this package: waits acquire through the patched method', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  t.after(() => (ReserveResource.prototype.lock = ours));
  ReserveResource.prototype.lock = function lock(resource, callback) {
    return ours.call(this, `prod-${resource}`, callback);
  };
  const reservation = makeReservation(t, server);
  assert.equal(await reservation.wait_until_lock('job'), key);
  assert.deepEqual(await client.keys('*'), [key]);
});

test('a wait and lock() exclude each other, and the method runs in the async context of the wait', async (t) => {
  const server = await startServer(t);
  const storage = new AsyncLocalStorage();
  const seen = [];
  class Own extends ReserveResource {
    lock(resource, callback) {
      seen.push([resource, storage.getStore()]);
      storage.enterWith('left behind');
      return super.lock(`prod-${resource}`, callback);
    }
  }
  const [holder, waiter] = [1, 2].map(() => makeReservation(t, server, { Class: Own }));
  await storage.run('holder', () => holder.lock('job'));
  seen.length = 0;
  const waiting = storage.run('waiter', () =>
    waiter.wait_until_lock('job').then((had) => [had, storage.getStore()]),
  );
  await until(() => seen.length >= 2, { what: 'a second call' });
  await holder.release();
  assert.equal((await within(5000, waiting))[0], key);
  assert.deepEqual(new Set(seen.map(String)), new Set(['job,waiter']));
});

for (const who of ['a subclass', 'an instance', 'an async method that returns the answer', 'a Proxy']) {
  test(`${who}: a wait wakes within milliseconds, whoever frees the key`, async (t) => {
    const server = await startServer(t);
    const client = server.client();
    const waiter = ways[who](t, server);
    await waiter.lock('warm-up');
    const times = [];
    for (let round = 0; round < 7; round += 1) {
      await client.set(key, 'other', 'EX', 600);
      const before = (await commandCalls(client)).set;
      const waiting = waiter.wait_until_lock('job');
      // The try of the round, and that of the native waiter.
      await until(async () => (await commandCalls(client)).set >= before + 2, { what: 'two tries' });
      const start = performance.now();
      if (round % 2) await client.del(key);
      else await client.pexpire(key, 1);
      assert.equal(await within(5000, waiting), key);
      times.push(performance.now() - start);
      assert.equal(await client.get(key), waiter._reserve_val);
      assert.equal(await waiter.release('prod-job'), 1);
    }
    times.sort((one, other) => one - other);
    assert.ok(times[3] < 150, `median ${times[3]} ms of ${times.map(Math.round)}`);
  });
}

test('waiters of one process are served in order, also across rounds', async (t) => {
  const server = await startServer(t);
  const make = () => ways['a subclass'](t, server);
  const holder = make();
  await holder.lock('job');
  const served = [];
  const waits = [];
  for (let number = 0; number < 5; number += 1) {
    const reservation = make();
    const joined = tried(server.client());
    waits.push(
      reservation.wait_until_lock('job').then(() => {
        served.push(number);
        return reservation.release();
      }),
    );
    await joined;
  }
  // Each has had rounds meanwhile, and kept its place.
  await tried(server.client(), 12);
  assert.deepEqual(served, []);
  await holder.release();
  await within(5000, Promise.all(waits));
  assert.deepEqual(served, [0, 1, 2, 3, 4]);
});

/** Waits by a method whose second call gets its answer at once, but ends only when the gate is opened. */
function startGated(t, server) {
  const gate = {};
  const opened = new Promise((resolve) => (gate.open = resolve));
  let calls = 0;
  class Gated extends ReserveResource {
    async lock(resource) {
      const answer = await super.lock(`prod-${resource}`);
      calls += 1;
      if (calls === 2) {
        gate.is_closed = true;
        await opened;
      }
      return answer;
    }
  }
  const reservation = makeReservation(t, server, { Class: Gated });
  return { gate, reservation, waiting: reservation.wait_until_lock('job') };
}

test('a lock acquired during a round is for the next round: the wait keeps its place', async (t) => {
  const server = await startServer(t);
  const holder = makeReservation(t, server);
  await holder.lock('prod-job');
  const { gate, reservation, waiting } = startGated(t, server);
  await until(() => gate.is_closed, { what: 'the second round' });
  const behind = makeReservation(t, server);
  const served = [];
  const both = [
    waiting.then(() => served.push('first') && reservation.release()),
    behind.wait_until_lock('prod-job').then(() => served.push('behind') && behind.release()),
  ];
  await holder.release();
  await until(async () => (await server.command('GET', key)) !== holder._reserve_val, {
    what: 'the hand-over',
  });
  gate.open();
  await within(5000, Promise.all(both));
  assert.deepEqual(served, ['first', 'behind']);
});

test('a lock acquired during an endless round goes to the next waiter', async (t) => {
  const server = await startServer(t);
  const holder = makeReservation(t, server);
  await holder.lock('prod-job');
  const { gate, waiting } = startGated(t, server);
  await until(() => gate.is_closed, { what: 'the second round' });
  await holder.release();
  const behind = makeReservation(t, server);
  await within(5000, behind.wait_until_lock('prod-job'));
  await behind.release();
  gate.open();
  assert.equal(await within(5000, waiting), key);
});

test('a wait for what the instance holds is answered at once, and nothing is sent', async (t) => {
  const server = await startServer(t);
  const reservation = ways['a subclass'](t, server);
  await reservation.lock('job');
  await reservation.lock('other');
  const { calls } = await countCommands(server.client(), async () => {
    assert.equal(await reservation.wait_until_lock('job'), key);
    assert.equal(await reservation.wait_until_lock('job', { timeout: 0 }), key);
  });
  assert.deepEqual(calls, {});
  assert.equal(await reservation.release('prod-job'), 1);
});

test('two waits of one instance for one resource: both get the same lock', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  await client.set(key, 'other', 'EX', 600);
  const reservation = ways['a subclass'](t, server);
  const waits = [1, 2, 3].map(() => reservation.wait_until_lock('job'));
  await tried(client, 2);
  const start = performance.now();
  await client.del(key);
  assert.deepEqual(await within(5000, Promise.all(waits)), [key, key, key]);
  assert.ok(performance.now() - start < 900, 'no poll');
  assert.equal(await reservation.release(), 1);
});

test('waiting costs two tries a second, and logs the lines of 0.4.0', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  await client.set(key, 'other', 'EX', 600);
  const log = keepLog();
  const waiter = ways['a subclass'](t, server, { log });
  const { calls } = await countCommands(client, () =>
    assert.rejects(waiter.wait_until_lock('job', { timeout: 3500 })),
  );
  assert.ok(calls.set >= 4 && calls.set <= 9, `${calls.set} tries`);
  const [attempted, attempts] = [log.of('reservation-attempted'), log.of('reservation-attempt')];
  assert.equal(attempted.length, attempts.length);
  assert.ok(attempts.length >= 3 && attempts.length <= 4, `${attempts.length} turns`);
  assert.deepEqual([attempted[0].resource, attempts[0].resource], ['prod-job', 'job']);
  await client.del(key);
  await waiter.wait_until_lock('job');
  assert.deepEqual(
    log.of('reservation-acquired').map(({ resource, key: name }) => [resource, name]),
    [['job', key]],
  );
});
