// Slow replies, a redis that hangs (it still accepts connections), and a client that is stopped for longer than its lease.
// The lease on our clock decides.
'use strict';

const assert = require('node:assert/strict');
const { test } = require('node:test');
const { commandCalls } = require('../support/commands');
const { patient, wait, runChild, setOf, requestSeen, ran, passed } = require('../support/faults');
const { startProxy } = require('../support/proxy');
const { makeReservation, askError, keepLog, keepLosses } = require('../support/reservation');
const { startServer } = require('../support/server');
const { until, within } = require('../support/wait');

const key = 'reservation-job';

test('redis hangs: lock fails within command_timeout, and a SET that runs later is undone', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  const reservation = makeReservation(t, server, { ttl: 600, options: { command_timeout: 500 } });
  await reservation.lock('warm-up');
  server.pause();
  const start = performance.now();
  const error = await askError((done) => reservation.lock('job', done));
  const took = performance.now() - start;
  assert.equal(error.code, 'ERR_REDIS_TIMEOUT');
  assert.ok(took >= 490 && took < 4000, `${took} ms`);
  for (const part of [key, `${server.host}:${server.port}`, ' ms']) {
    assert.ok(error.message.includes(part), `${part} in: ${error.message}`);
  }
  assert.deepEqual([reservation.held, reservation.is_held('job')], [true, false]);
  server.resume();
  // The SET was in the socket and has run. Without the undo, its key would stay for ten minutes.
  await until(async () => (await commandCalls(client)).set >= 2, { ...patient, what: 'the late SET' });
  await until(async () => !(await client.exists(key)), { ...patient, what: 'the end of the orphan' });
  assert.equal((await commandCalls(client)).del, 1);
  await until(() => reservation.lock('job'), { ...patient, what: 'the lock' });
  assert.equal(await reservation.release(), 2);
});

test('command_timeout as long as the ttl: a SET that runs after it is undone', async (t) => {
  const server = await startServer(t);
  const proxy = await startProxy(t, server);
  const client = server.client();
  const reservation = makeReservation(t, proxy, { ttl: 3, options: { command_timeout: 3000 } });
  await reservation.lock('warm-up');
  await reservation.release();
  proxy.stall('up');
  const error = await askError((done) => reservation.lock('job', done));
  assert.equal(error.code, 'ERR_REDIS_TIMEOUT');
  const before = (await commandCalls(client)).set;
  proxy.heal();
  await until(async () => (await commandCalls(client)).set > before, { what: 'the SET that was late' });
  // By its ttl it would lapse after 3 s.
  await until(async () => !(await client.exists(key)), { timeout: 2000, what: 'its end' });
});

test('redis hangs before the connection is up: the call fails after connect_timeout', async (t) => {
  const server = await startServer(t);
  server.pause();
  const reservation = makeReservation(t, server, { options: { connect_timeout: 600 } });
  for (const call of [() => reservation.lock('job'), () => reservation.wait_until_lock('job')]) {
    const start = performance.now();
    const error = await within(
      10000,
      call().catch((caught) => caught),
    );
    const took = performance.now() - start;
    assert.equal(error.code, 'ERR_REDIS_CONNECTION');
    assert.ok(took >= 590 && took < 4000, `${took} ms`);
    assert.ok(
      error.message.startsWith(`Redis connection to ${server.host}:${server.port} failed - `),
      error.message,
    );
  }
  server.resume();
  assert.equal(await within(20000, reservation.lock('job')), true);
});

test('redis hangs for longer than the leases: each loss is reported at its deadline, while redis still hangs', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  const ttls = [2, 3, 600];
  const told = [];
  const start = performance.now();
  const reservations = ttls.map((ttl) => makeReservation(t, server, { interval: 250, ttl }));
  const losses = reservations.map(keepLosses);
  reservations.forEach((one, index) => {
    one.on('lost', () => {
      told[index] = { after: performance.now() - start, held: one.held };
    });
  });
  await Promise.all(reservations.map((one, index) => one.lock(`job ${index}`)));
  server.pause();
  const paused = performance.now() - start;
  const ended = [];
  await until(
    () => {
      reservations.forEach((one, index) => {
        if (!one.held) ended[index] ??= performance.now() - start;
      });
      return told[0] && told[1];
    },
    { ...patient, interval: 2, what: 'two losses' },
  );
  for (const index of [0, 1]) {
    const ttl = ttls[index] * 1000;
    assert.equal(told[index].held, false);
    // Counted from the send of the last command that was answered.
    for (const after of [ended[index], told[index].after]) {
      assert.ok(after >= ttl - 100 && after < paused + ttl + 2500, `ttl ${ttl}: ${after} ms`);
    }
    assert.equal(losses[index][0].code, 'ERR_RESERVATION_LOST');
  }
  assert.deepEqual([reservations[2].held, losses[2]], [true, []]);
  server.resume();
  await until(async () => (await client.dbsize()) === 1, { ...patient, what: 'the end of the lost keys' });
  await ran(client, 'pexpire', 2);
  assert.deepEqual(
    losses.map((list) => list.length),
    [1, 1, 0],
  );
  assert.equal(reservations[2].held, true);
});

test('redis hangs and goes on: one waiter acquires the lock, and holders lose nothing', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  await client.set(key, 'other', 'PX', 1000);
  const log = keepLog();
  const holder = makeReservation(t, server, { interval: 200, ttl: 20, options: { command_timeout: 300 } });
  const losses = keepLosses(holder);
  await holder.lock('mine');
  const waiter = makeReservation(t, server, { ttl: 20, log, options: { command_timeout: 300 } });
  const waiting = wait(t, waiter, 'job');
  server.pause();
  const start = performance.now();
  await passed(start, 2500);
  assert.deepEqual([holder.held, waiter.held], [true, false]);
  server.resume();
  assert.equal(await within(20000, waiting), key);
  await ran(client, 'pexpire', 4);
  assert.deepEqual([holder.held, waiter.held, losses], [true, true, []]);
  assert.equal(await client.get(key), waiter._reserve_val);
  assert.equal(await waiter.release(), 1);
  // None of the tries that timed out leaves a key.
  await ran(client, 'pexpire', 4);
  assert.equal(await client.exists(key), 0);
});

test('a client stopped past its lease: held is false on the first line that runs, and the new holder is left alone', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  // A synchronous loop, so that this code runs first, before the package gets a turn of the event loop.
  const code = `
    const reservation = make(300, 2);
    let losses = 0;
    reservation.on('lost', ({ message }) => { losses += 1; process.send({ losses, message, held: reservation.held }); });
    process.on('message', () => process.send({ total: losses }));
    reservation.lock('job', () => {
      process.send({ val: reservation._reserve_val }, () => {
        let last = performance.now();
        const before = reservation.held;
        const end = last + 60000;
        while (performance.now() < end) {
          const now = performance.now();
          const { held } = reservation;
          if (now - last > 1500) {
            process.send({ before, held, is_held: reservation.is_held('job'), losses });
            return;
          }
          last = now;
        }
      });
    });`;
  const child = runChild(t, server, code);
  const { val } = await child.message();
  await ran(client, 'pexpire', 2);
  child.pause();
  await until(async () => !(await client.exists(key)), { ...patient, what: 'the end of the lease' });
  await client.set(key, 'thief-1', 'EX', 600);
  child.resume();
  assert.deepEqual(await child.message(), { before: true, held: false, is_held: false, losses: 0 });
  const loss = await child.message(({ message }) => message, patient);
  assert.deepEqual([loss.losses, loss.held], [1, false]);
  assert.ok(loss.message.startsWith(`Worker ${val} lost `), loss.message);
  // A lost key is deleted if it has our value, which it has not. Nothing more is reported.
  await until(async () => (await commandCalls(client)).get > (await commandCalls(client)).pexpire, {
    ...patient,
    what: 'the look at the key',
  });
  child.send('count');
  assert.deepEqual(await child.message(({ total }) => total !== undefined), { total: 1 });
  assert.equal(await client.get(key), 'thief-1');
  assert.ok((await client.pttl(key)) > 570000);
});

test('a lock whose answer comes after its lease is given back, and answers false', async (t) => {
  const server = await startServer(t);
  const proxy = await startProxy(t, server);
  const client = server.client();
  const code = `
    const reservation = make(undefined, 3, { command_timeout: 3000 });
    reservation.lock('warm-up', () => {
      process.once('message', () => {
        reservation.lock('job', (...args) => process.send({ args, held: reservation.is_held('job') }));
        process.send({ sent: true });
      });
      process.send({ ready: true });
    });`;
  const child = runChild(t, proxy, code);
  await child.message({ ready: true });
  // The SET arrives 1.5 s after the send, so the key outlives the lease, which is counted from the send.
  const seen = requestSeen(proxy, setOf(key));
  proxy.stall('up');
  child.send('lock');
  await seen;
  const start = performance.now();
  child.pause();
  await passed(start, 1500);
  proxy.heal();
  await until(() => client.exists(key), { ...patient, what: 'the key' });
  await passed(start, 3300);
  assert.equal(await client.exists(key), 1, 'redis still has it');
  child.resume();
  assert.deepEqual(await child.message(({ args }) => args, patient), { args: [null, false], held: false });
  await until(async () => !(await client.exists(key)), { ...patient, what: 'the return of the key' });
  assert.equal((await commandCalls(client)).del, 1, 'given back, not lapsed');
});

test('a client stopped for less than its lease loses nothing, and its calls succeed', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  const code = `
    const reservation = make(300, 6, { command_timeout: 1000 });
    reservation.on('lost', () => process.send({ lost: true }));
    reservation.lock('job', () => {
      process.send({ held: true });
      process.on('message', async () => {
        await reservation.ensure_reservation();
        process.send({ held: reservation.held, released: await reservation.release() });
      });
    });`;
  const child = runChild(t, server, code);
  await child.message();
  await ran(client, 'pexpire', 1);
  child.pause();
  const start = performance.now();
  await passed(start, 2500);
  child.resume();
  await ran(client, 'pexpire', 2);
  child.send('go');
  assert.deepEqual(await child.message(() => true, patient), { held: true, released: 1 });
});

test('slow replies with jitter: leases are kept, and answers are correct', async (t) => {
  const server = await startServer(t);
  const proxy = await startProxy(t, server);
  const client = server.client();
  const reservation = makeReservation(t, proxy, { interval: 150, ttl: 3 });
  const losses = keepLosses(reservation);
  proxy.delay(50, { jitter: 250, seed: 7 });
  await Promise.all(['a', 'b', 'c'].map((name) => reservation.lock(name)));
  const wasHeld = [];
  const other = makeReservation(t, proxy, { ttl: 3 });
  for (let round = 0; round < 4; round += 1) {
    assert.equal(await other.lock('a'), false);
    assert.equal(await other.lock(`own ${round}`), true);
    assert.equal(await other.release(), 1);
    wasHeld.push(reservation.held);
  }
  assert.deepEqual([wasHeld, losses], [[true, true, true, true], []]);
  assert.equal(await reservation.release(), 3);
  assert.equal(await client.dbsize(), 0);
});
