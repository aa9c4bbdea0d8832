// release(): what it frees and counts, which losses it reports, and that it can be called again after a failure of redis.
'use strict';

const assert = require('node:assert/strict');
const { test } = require('node:test');
const { lease_of } = require('../lib/calls/pending');
const { peek } = require('../lib/leases/state');
const { startChild } = require('./support/child');
const { commandCalls, countCommands } = require('./support/commands');
const { makeReservation, ask, askError, keepLog, keepLosses } = require('./support/reservation');
const { startServer } = require('./support/server');
const { until } = require('./support/wait');

test('nothing held gives (null, 0)', async (t) => {
  const server = await startServer(t);
  const reservation = makeReservation(t, server);
  assert.deepEqual(await ask((done) => reservation.release(done)), [null, 0], 'never used');
  assert.deepEqual(await ask((done) => reservation.release('job', done)), [null, 0]);
  await reservation.lock('job');
  await reservation.release();
  assert.deepEqual(await ask((done) => reservation.release(done)), [null, 0], 'released before');
  assert.equal(await reservation.release(), 0);
});

test('the keys of held locks are deleted and counted', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  const reservation = makeReservation(t, server);
  await reservation.lock('job');
  assert.deepEqual(await ask((done) => reservation.release(done)), [null, 1]);
  assert.equal(await client.dbsize(), 0);

  await reservation.lock('one');
  await reservation.lock('two');
  assert.deepEqual(await ask((done) => reservation.release(done)), [null, 2]);
  assert.equal(await client.dbsize(), 0);
});

test('release(resource) frees only that resource', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  const reservation = makeReservation(t, server);
  for (const name of ['one', 'two', '3']) await reservation.lock(name);
  assert.deepEqual(await ask((done) => reservation.release('two', done)), [null, 1]);
  assert.deepEqual((await client.keys('*')).sort(), ['reservation-3', 'reservation-one']);
  assert.equal(await reservation.release(3), 1, 'by what it was called, or by another name for the same');
  assert.deepEqual(
    ['one', 'two', '3'].map((name) => reservation.is_held(name)),
    [true, false, false],
  );
  assert.equal(await reservation.release('two'), 0);
  assert.equal(await reservation.release(), 1);
  assert.equal(await client.dbsize(), 0);
});

test('a released resource can be locked again by any instance', async (t) => {
  const server = await startServer(t);
  const [one, other] = [makeReservation(t, server), makeReservation(t, server)];
  for (let round = 0; round < 10; round += 1) {
    assert.equal(await one.lock('job'), true);
    assert.equal(await other.lock('job'), false);
    assert.equal(await one.release(), 1);
    assert.equal(await other.lock('job'), true);
    assert.equal(await other.release(), 1);
  }
});

test('a key with a foreign value is left alone; the error of the loss lists what was released and what was not', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  const reservation = makeReservation(t, server);
  await reservation.lock('mine');
  await reservation.lock('stolen');
  const { _reserve_val: value, signal } = reservation;
  await client.set('reservation-stolen', 'thief-1', 'EX', 600);
  const error = await askError((done) => reservation.release(done));
  assert.equal(error.code, 'ERR_RESERVATION_LOST');
  assert.equal(error.message, `Worker ${value} lost reservation-stolen to thief-1`);
  assert.equal(error.released, 1);
  assert.deepEqual(error.lost, ['reservation-stolen']);
  assert.equal(await client.get('reservation-stolen'), 'thief-1');
  assert.ok((await client.pttl('reservation-stolen')) > 500000, 'nor is its ttl touched');
  assert.equal(await client.exists('reservation-mine'), 0);
  assert.equal(signal.reason, error);
  assert.deepEqual(await ask((done) => reservation.release(done)), [null, 0], 'reported once');
});

test('a key that is gone or of another type is also a loss', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  const reservation = makeReservation(t, server);
  const losses = keepLosses(reservation);
  for (const take of [
    () => client.del('reservation-job'),
    () => client.flushall(),
    () => client.multi().del('reservation-job').rpush('reservation-job', 'thief').exec(),
  ]) {
    await client.del('reservation-job');
    await reservation.lock('job');
    const { _reserve_val: value } = reservation;
    await take();
    const error = await reservation.release().catch((caught) => caught);
    assert.equal(error.code, 'ERR_RESERVATION_LOST');
    assert.equal(error.message, `Worker ${value} lost reservation for reservation-job`);
    assert.deepEqual([error.released, error.lost], [0, ['reservation-job']]);
    assert.equal(await reservation.release(), 0);
  }
  assert.equal(await client.type('reservation-job'), 'list');
  assert.deepEqual(losses, [], 'only the release reports it');
});

test('after a reported loss, release gives (null, 0)', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  const reservation = makeReservation(t, server, { interval: 100 });
  const losses = keepLosses(reservation);
  await reservation.lock('job');
  await client.set('reservation-job', 'thief-1');
  await until(() => losses.length > 0, { what: 'the loss' });
  assert.deepEqual(await ask((done) => reservation.release(done)), [null, 0]);
  assert.equal(await client.get('reservation-job'), 'thief-1');
  assert.equal(losses.length, 1);
});

test('release(resource) reports only the loss of that resource', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  const reservation = makeReservation(t, server);
  await reservation.lock('one');
  await reservation.lock('two');
  await client.flushall();
  for (const name of ['one', 'two']) {
    const error = await askError((done) => reservation.release(name, done));
    assert.deepEqual([error.code, error.lost], ['ERR_RESERVATION_LOST', [`reservation-${name}`]]);
  }
  assert.equal(await reservation.release(), 0);
});

test('two simultaneous releases: one deletion, one answer each', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  const reservation = makeReservation(t, server);
  await reservation.lock('job');
  const { calls, value } = await countCommands(client, () =>
    Promise.all([1, 2, 3].map(() => ask((done) => reservation.release(done)))),
  );
  assert.deepEqual(
    value.map(([error]) => error),
    [null, null, null],
  );
  assert.equal(
    value.reduce((sum, [, released]) => sum + released, 0),
    1,
  );
  assert.equal(calls.del, 1);
});

test('redis unreachable: an error, and release may be called again', async (t) => {
  const server = await startServer(t);
  const reservation = makeReservation(t, server);
  const losses = keepLosses(reservation);
  await reservation.lock('job');
  await reservation.lock('other');
  await server.command('SAVE');
  await server.kill();
  const error = await askError((done) => reservation.release(done));
  assert.equal(error.code, 'ERR_REDIS_CONNECTION');
  assert.ok(error.message.includes(`${server.host}:${server.port}`), error.message);
  await server.start();
  const client = server.client();
  assert.equal(await client.dbsize(), 2);
  assert.deepEqual(await ask((done) => reservation.release(done)), [null, 2]);
  assert.equal(await client.dbsize(), 0);
  assert.deepEqual(losses, []);
});

test('redis hangs: an error within command_timeout, and release may be called again', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  const reservation = makeReservation(t, server, { options: { command_timeout: 300 } });
  const losses = keepLosses(reservation);
  await reservation.lock('job');
  server.pause();
  const start = performance.now();
  const error = await askError((done) => reservation.release(done));
  assert.equal(error.code, 'ERR_REDIS_TIMEOUT');
  assert.ok(performance.now() - start < 3000);
  server.resume();
  // The command of the first release may have run: then the key was ours to its end, which is no loss.
  assert.deepEqual(await ask((done) => reservation.release(done)), [null, 1]);
  assert.equal(await client.exists('reservation-job'), 0);
  assert.deepEqual(losses, []);
});

test('a reservation whose release failed is not renewed', async (t) => {
  const server = await startServer(t);
  const reservation = makeReservation(t, server, { interval: 100, ttl: 2 });
  const losses = keepLosses(reservation);
  await reservation.lock('job');
  await server.command('SAVE');
  await server.kill();
  await assert.rejects(reservation.release(), { code: 'ERR_REDIS_CONNECTION' });
  await server.start();
  // Either way the key lapses.
  const client = server.client();
  await until(async () => !(await client.exists('reservation-job')), { what: 'a free key' });
  assert.deepEqual(losses, []);
  const [error, released] = await ask((done) => reservation.release(done));
  if (error) assert.equal(error.code, 'ERR_RESERVATION_LOST');
  else assert.ok(released <= 1);
});

test('a heartbeat of 1 ms never renews a lock that is being released', async (t) => {
  const server = await startServer(t);
  // In a child process: an exception ends it with an error.
  const code = `
    const ReserveResource = require('./index.js');
    const { REDIS_HOST, REDIS_PORT } = process.env;
    async function work(name) {
      const reservation = new ReserveResource('me', REDIS_HOST, REDIS_PORT, 1, 30, false);
      for (let round = 0; round < 500; round += 1) {
        if (!(await reservation.lock(name))) throw new Error('not locked in round ' + round);
        if (round % 3 === 0) await reservation.ensure_reservation();
        if ((await reservation.release()) !== 1) throw new Error('not released in round ' + round);
        if (reservation.held) throw new Error('held after the release in round ' + round);
      }
    }
    Promise.all([work('a'), work('b'), work('c')]).then(() => process.send('done'));`;
  const child = startChild(t, { code }, { env: server.environment });
  await child.message((message) => message === 'done', { timeout: 60000 });
  assert.deepEqual(await child.exit(), { code: 0, signal: null });
  assert.equal(child.stderr, '');
  const client = server.client();
  assert.equal(await client.dbsize(), 0);
  assert.equal((await commandCalls(client)).del, 1500);
});

for (const [name, ask_for] of Object.entries({
  'a release': (reservation, done) => reservation.release(done),
  'a renewal': (reservation, done) => reservation.ensure_reservation(done),
})) {
  test(`${name} that finds a loss leaves the lock alone that was acquired meanwhile`, async (t) => {
    const server = await startServer(t);
    const client = server.client();
    const log = keepLog();
    const reservation = makeReservation(t, server, { log, interval: 10000 });
    await reservation.lock('job');
    const { _reserve_val: val } = reservation;
    await client.del('reservation-job');
    // All in one turn: the new lock is answered before the loss of the first one is known.
    const answered = ask((done) => ask_for(reservation, done));
    assert.equal(await reservation.lock('job'), true);
    const [error] = await answered;
    assert.equal(error.code, 'ERR_RESERVATION_LOST');
    assert.deepEqual(error.lost, ['reservation-job']);
    assert.deepEqual(
      log.of('reservation-lost').map((line) => line.val),
      [val],
    );
    assert.equal(reservation.held && reservation.is_held('job'), true);
    assert.equal(await client.get('reservation-job'), reservation._reserve_val);
    assert.equal(await reservation.release(), 1);
    assert.equal(await client.exists('reservation-job'), 0);
  });
}

test('a lapsed lock that is acquired anew leaves no number behind on the native side', async (t) => {
  const server = await startServer(t);
  const reservation = makeReservation(t, server, { interval: 200, ttl: 2 });
  const names = Array.from({ length: 20 }, (_, index) => `job ${index}`);
  const lock_all = () => Promise.all(names.map((name) => reservation.lock(name)));
  await lock_all();
  await server.kill();
  await assert.rejects(reservation.release());
  await until(() => names.every((_, number) => lease_of(number) === undefined), { what: 'all to lapse' });
  await server.start();
  assert.deepEqual(
    await lock_all(),
    names.map(() => true),
  );
  // The numbers of the first twenty are reused.
  await reservation.release();
  const more = makeReservation(t, server);
  await Promise.all(Array.from({ length: 40 }, (_, index) => more.lock(`more ${index}`)));
  const numbers = Array.from({ length: 200 }, (_, number) => number).filter((number) => lease_of(number));
  assert.ok(Math.max(...numbers) < 60, `${numbers}`);
});

test('after a release that could not be submitted, the next one reports the loss and frees what is held', async (t) => {
  const server = await startServer(t);
  const reservation = makeReservation(t, server, { interval: Infinity, ttl: 1 });
  await reservation.lock('job');
  const { signal } = reservation;
  await until(() => signal.aborted, { what: 'the loss, which is not reported' });
  reservation.lock_ttl = 30;
  await reservation.lock('other');
  const { native } = peek(reservation);
  native.release = () => {
    throw new Error('no memory');
  };
  t.after(() => delete native.release);
  for (const attempt of [() => reservation.release(), () => reservation.release('job')]) {
    await assert.rejects(attempt(), { message: 'no memory' });
  }
  delete native.release;
  const error = await askError((done) => reservation.release(done));
  assert.deepEqual(
    [error.code, error.lost, error.released],
    ['ERR_RESERVATION_LOST', ['reservation-job'], 1],
  );
  assert.deepEqual(await ask((done) => reservation.release(done)), [null, 0]);
});
