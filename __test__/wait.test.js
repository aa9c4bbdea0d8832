// wait_until_lock(): what wakes a waiter, the order of waiters, and how a wait ends without a lock.
'use strict';

const assert = require('node:assert/strict');
const { test } = require('node:test');
const { countCommands, commandCalls } = require('./support/commands');
const { makeReservation, ask, askError } = require('./support/reservation');
const { startServer, freePort } = require('./support/server');
const { until, within } = require('./support/wait');

/** Resolves once a wait has tried to acquire at least `tries` more times. */
async function tried(client, tries = 1) {
  const before = (await commandCalls(client)).set || 0;
  await until(async () => ((await commandCalls(client)).set || 0) >= before + tries, { what: 'a try' });
}

test('a wait for a free resource is answered at once, with the name of the key', async (t) => {
  const server = await startServer(t);
  const reservation = makeReservation(t, server);
  const start = performance.now();
  assert.deepEqual(await ask((done) => reservation.wait_until_lock('job', done)), [null, 'reservation-job']);
  assert.equal(await makeReservation(t, server).wait_until_lock('other'), 'reservation-other');
  // The first try of 0.4.0 came after a second.
  assert.ok(performance.now() - start < 900, 'at once');
  assert.equal(reservation.held, true);
  assert.equal(await server.client().get('reservation-job'), reservation._reserve_val);
});

test('a waiter wakes when another client deletes the key', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  await client.set('reservation-job', 'other', 'EX', 600);
  const reservation = makeReservation(t, server);
  const waiting = ask((done) => reservation.wait_until_lock('job', {}, done));
  await tried(client);
  assert.equal(await client.get('reservation-job'), 'other', 'nobody is pushed aside');
  await client.del('reservation-job');
  assert.deepEqual(await within(5000, waiting), [null, 'reservation-job']);
  assert.equal(await client.get('reservation-job'), reservation._reserve_val);
});

test('a waiter wakes when the key expires', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  const start = performance.now();
  await client.set('reservation-job', 'other', 'PX', 1500);
  const reservation = makeReservation(t, server);
  assert.equal(await within(10000, reservation.wait_until_lock('job')), 'reservation-job');
  assert.ok(performance.now() - start >= 1490, 'not before it expired');
});

test('a waiter waits for a key of another type', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  await client.rpush('reservation-job', 'other');
  const waiting = makeReservation(t, server).wait_until_lock('job');
  await tried(client);
  await client.del('reservation-job');
  assert.equal(await within(5000, waiting), 'reservation-job');
});

test('releases in a process wake its waiters in order', async (t) => {
  const server = await startServer(t);
  const holder = makeReservation(t, server);
  await holder.lock('job');
  const count = 8;
  const served = [];
  const start = performance.now();
  const waits = Array.from({ length: count }, async (_, number) => {
    const reservation = makeReservation(t, server);
    assert.equal(await reservation.wait_until_lock('job'), 'reservation-job');
    served.push(number);
    assert.equal(await reservation.release(), 1);
  });
  await tried(server.client());
  assert.deepEqual(served, []);
  await holder.release();
  await within(20000, Promise.all(waits));
  assert.deepEqual(served, [...served].sort());
  assert.equal(served.length, count);
  // Polls of a second for each would take longer.
  assert.ok(performance.now() - start < 1000 * (count - 2), 'woken, not polled');
});

test('of the waiters for one key, only one asks redis', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  await client.set('reservation-job', 'other', 'EX', 600);
  const controller = new AbortController();
  let waits;
  const { calls } = await countCommands(client, async () => {
    waits = Array.from({ length: 30 }, () =>
      assert.rejects(makeReservation(t, server).wait_until_lock('job', { signal: controller.signal })),
    );
    await tried(client, 3);
  });
  assert.ok(calls.set >= 3 && calls.set <= 8, `${calls.set} tries`);
  controller.abort();
  await within(2000, Promise.all(waits));
});

test('a deletion by any client wakes the waiter within milliseconds', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  const reservation = makeReservation(t, server);
  await reservation.lock('warm-up');
  const times = [];
  for (let round = 0; round < 9; round += 1) {
    await client.set('reservation-job', 'other', 'EX', 600);
    const before = (await commandCalls(client)).set;
    const waiting = reservation.wait_until_lock('job');
    await until(async () => (await commandCalls(client)).set > before, { what: 'the first try' });
    const start = performance.now();
    if (round % 3 === 0) await client.del('reservation-job');
    else if (round % 3 === 1) await client.unlink('reservation-job');
    else await client.pexpire('reservation-job', 1);
    await within(5000, waiting);
    times.push(performance.now() - start);
    assert.equal(await reservation.release('job'), 1);
  }
  times.sort((one, other) => one - other);
  // A poll each second would find it after half a second, on average.
  assert.ok(times[4] < 350, `median ${times[4]} ms of ${times.map(Math.round)}`);
});

test('a timeout ends only its own wait', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  await client.set('reservation-job', 'other', 'EX', 600);
  const patient = makeReservation(t, server);
  const waiting = patient.wait_until_lock('job', { timeout: 60000 });
  const start = performance.now();
  const hasty = makeReservation(t, server);
  const error = await askError((done) => hasty.wait_until_lock('job', { timeout: 400 }, done));
  const passed = performance.now() - start;
  assert.ok(passed >= 395 && passed < 3000, `${passed} ms`);
  assert.equal(error.code, 'ERR_RESERVATION_TIMEOUT');
  assert.match(error.message, /reservation-job/);
  assert.match(error.message, /400/);
  await assert.rejects(hasty.wait_until_lock('job', { timeout: 50 }), { code: 'ERR_RESERVATION_TIMEOUT' });
  await client.del('reservation-job');
  assert.equal(await within(5000, waiting), 'reservation-job');
  assert.deepEqual([patient.held, hasty.held], [true, false]);
  await patient.release();
  assert.equal(await client.exists('reservation-job'), 0, 'nobody took it who had left');
});

test('a timeout that is not reached has no effect', async (t) => {
  const server = await startServer(t);
  const reservation = makeReservation(t, server);
  await reservation.wait_until_lock('job', { timeout: 300 });
  const other = makeReservation(t, server);
  await assert.rejects(other.wait_until_lock('job', { timeout: 600 }), { code: 'ERR_RESERVATION_TIMEOUT' });
  assert.equal(reservation.held, true);
});

test('a wait with an aborted signal sends nothing', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  await client.ping();
  const reason = new Error('no longer wanted');
  const reservation = makeReservation(t, server);
  const { calls } = await countCommands(client, async () => {
    const signal = AbortSignal.abort(reason);
    assert.equal(await askError((done) => reservation.wait_until_lock('job', { signal }, done)), reason);
    await assert.rejects(reservation.wait_until_lock('job', { signal }), reason);
    await assert.rejects(reservation.wait_until_lock('job', { signal: AbortSignal.abort() }), {
      name: 'AbortError',
    });
  });
  assert.deepEqual(calls, {});
});

test('an abort during the wait ends it with the reason of the signal', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  await client.set('reservation-job', 'other', 'EX', 600);
  const controller = new AbortController();
  const { signal } = controller;
  const reason = new Error('no longer wanted');
  const [one, other, third] = [1, 2, 3].map(() => makeReservation(t, server));
  const waits = [
    askError((done) => one.wait_until_lock('job', { signal }, done)),
    other.wait_until_lock('job', { signal }).catch((error) => error),
  ];
  const stays = third.wait_until_lock('job');
  await tried(client);
  controller.abort(reason);
  assert.deepEqual(await within(2000, Promise.all(waits)), [reason, reason]);
  await client.del('reservation-job');
  assert.equal(await within(5000, stays), 'reservation-job');
  assert.deepEqual([one.held, other.held, third.held], [false, false, true]);
});

test('an abort at the moment of the acquisition leaves no key behind', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  const reservation = makeReservation(t, server);
  await reservation.lock('warm-up');
  let aborted = 0;
  for (let round = 0; round < 100; round += 1) {
    const controller = new AbortController();
    const waiting = reservation.wait_until_lock('job', { signal: controller.signal });
    if (round % 2) controller.abort();
    else setImmediate(() => controller.abort());
    const got = await waiting.catch((error) => error);
    if (got instanceof Error) {
      aborted += 1;
      assert.equal(got.name, 'AbortError');
      assert.equal(reservation.is_held('job'), false);
      await until(async () => !(await client.exists('reservation-job')), { what: 'a free key' });
    } else {
      assert.equal(got, 'reservation-job');
      assert.equal(await reservation.release('job'), 1);
    }
  }
  assert.ok(aborted >= 50, `${aborted} were aborted`);
});

test('a wait for what the instance holds is answered at once: nothing is sent, and callbacks do not nest', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  const reservation = makeReservation(t, server);
  await reservation.lock('job');
  const { calls } = await countCommands(client, async () => {
    assert.deepEqual(await ask((done) => reservation.wait_until_lock('job', done)), [
      null,
      'reservation-job',
    ]);
    assert.equal(await reservation.wait_until_lock('job', { timeout: 10 }), 'reservation-job');
  });
  assert.deepEqual(calls, {});
  assert.equal(await reservation.release(), 1);
  assert.equal(reservation.held, false);
  assert.equal(await client.exists('reservation-job'), 0);
});

test('an instance that holds another resource still waits', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  const reservation = makeReservation(t, server);
  await reservation.lock('first');
  await client.set('reservation-second', 'other', 'EX', 600);
  const waiting = reservation.wait_until_lock('second');
  await tried(client);
  assert.equal(reservation.is_held('second'), false);
  await client.del('reservation-second');
  assert.equal(await within(5000, waiting), 'reservation-second');
  assert.equal(await reservation.release(), 2);
});

test('a failed first connection is an error at once, with a callback and with a promise', async (t) => {
  const nowhere = { host: '127.0.0.1', port: await freePort() };
  const reservation = makeReservation(t, nowhere);
  const error = await within(
    5000,
    askError((done) => reservation.wait_until_lock('job', done)),
  );
  assert.equal(error.code, 'ERR_REDIS_CONNECTION');
  await assert.rejects(reservation.wait_until_lock('job'), { code: 'ERR_REDIS_CONNECTION' });

  const guarded = await startServer(t, { password: 'right' });
  await assert.rejects(makeReservation(t, guarded, { password: 'wrong' }).wait_until_lock('job'), {
    code: 'ERR_REDIS_AUTH',
  });
  await assert.rejects(makeReservation(t, guarded, { password: '' }).wait_until_lock('job'), {
    code: 'ERR_REDIS_AUTH',
  });
});

test('a wait outlasts an outage', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  await client.set('reservation-job', 'other', 'EX', 600);
  const reservation = makeReservation(t, server);
  const waiting = reservation.wait_until_lock('job');
  await tried(client);
  // Longer than a lock tries to connect.
  await server.restart({ data: true, down: 1500 });
  await tried(client);
  assert.equal(reservation.held, false);
  await client.del('reservation-job');
  assert.equal(await within(10000, waiting), 'reservation-job');
  assert.equal(await client.get('reservation-job'), reservation._reserve_val);
});

test('a wait goes on while redis is out of memory', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  const reservation = makeReservation(t, server);
  await reservation.lock('warm-up');
  await client.config('SET', 'maxmemory', '1');
  await assert.rejects(reservation.lock('job'), { code: 'ERR_REDIS_REPLY', message: /OOM/ });
  const waiting = reservation.wait_until_lock('job');
  const refused = async () => Number(/errorstat_OOM:count=(\d+)/.exec(await client.info('errorstats'))[1]);
  await until(async () => (await refused()) >= 3, { what: 'refused tries' });
  await client.config('SET', 'maxmemory', '0');
  assert.equal(await within(10000, waiting), 'reservation-job');
});
