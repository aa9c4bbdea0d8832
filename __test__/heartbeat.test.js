// Heartbeats: the native thread renews at the interval, whatever the event loop does. Runs alone, since it measures time.
'use strict';

const assert = require('node:assert/strict');
const { test } = require('node:test');
const { startChild } = require('./support/child');
const { commandCalls } = require('./support/commands');
const { refusals } = require('./support/faults');
const { makeReservation, keepLog, keepLosses } = require('./support/reservation');
const { startServer } = require('./support/server');
const { until } = require('./support/wait');

const key = 'reservation-job';

test('a lock with a ttl of 2 s survives an event loop blocked for 10 s: its key is never missing', async (t) => {
  const server = await startServer(t);
  const env = server.environment;
  const holder = startChild(
    t,
    {
      code: `
        const ReserveResource = require('./index.js');
        const reservation = new ReserveResource('me', process.env.REDIS_HOST, process.env.REDIS_PORT, 500, 2, false);
        reservation.lock('job', (error, got) => {
          process.send({ got, val: reservation._reserve_val });
          process.once('message', () => {
            const end = process.hrtime.bigint() + 10_000_000_000n;
            while (process.hrtime.bigint() < end);
            const { held } = reservation; // before anything else of this process could run
            reservation.release((failure, released) => process.send({ held, failure, released }));
          });
        });`,
    },
    { env },
  );
  const { got, val } = await holder.message();
  assert.equal(got, true);

  // Another process, whose event loop is idle.
  const watcher = startChild(
    t,
    {
      code: `
        const Redis = require('ioredis');
        const client = new Redis({ host: process.env.REDIS_HOST, port: process.env.REDIS_PORT });
        const [key, value] = process.argv.slice(1);
        const seen = { looks: 0, missed: 0 };
        const timer = setInterval(async () => {
          const now = await client.get(key);
          seen.looks += 1;
          if (now !== value) seen.missed += 1;
          if (seen.looks === 1) process.send({ looking: true });
        }, 50);
        process.once('message', () => {
          clearInterval(timer);
          client.get(key).then(() => process.send(seen));
        });`,
    },
    { env, args: [key, val] },
  );
  await watcher.message({ looking: true });
  const renewed = (await commandCalls(server.client())).pexpire || 0;
  holder.send('block');
  // The watcher stops while the holder is still blocked, so that the release does not count as a missing key.
  const start = performance.now();
  await until(() => performance.now() - start >= 9500, { timeout: 20000, what: 'the end of the watch' });
  watcher.send('stop');
  const seen = await watcher.message();
  assert.equal(holder.messages.all.length, 1, 'blocked all the time');
  assert.equal(seen.missed, 0, JSON.stringify(seen));
  assert.ok(seen.looks >= 120, `it looked ${seen.looks} times`);
  const renewals = (await commandCalls(server.client())).pexpire - renewed;
  assert.ok(renewals >= 10 && renewals <= 40, `${renewals} renewals`);
  assert.deepEqual(await holder.message(), { held: true, failure: null, released: 1 });
});

test('each interval sets the whole ttl again', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  const log = keepLog();
  const reservation = makeReservation(t, server, { interval: 400, ttl: 20, log });
  await reservation.lock('job');
  const { _reserve_val: val } = reservation;
  await client.pexpire(key, 5000);
  const extended = () => log.of('reservation-extended');
  await until(() => extended().length >= 6, { what: 'six renewals' });
  assert.ok((await client.pttl(key)) > 15000, 'the whole ttl again');
  assert.equal(await client.get(key), val);
  const events = extended();
  const mean = (events[5].at - events[0].at) / 5;
  assert.ok(mean > 300 && mean < 800, `renewed every ${mean} ms`);
  assert.deepEqual(
    [events[0].key, events[0].duration, events[0].val, events[0].level],
    [key, '20s', val, 'info'],
  );
  await reservation.release();
  const after = (await commandCalls(client)).pexpire;
  await reservation.lock('other');
  const before = extended().length;
  await until(() => extended().length >= before + 2, { what: 'renewals of another' });
  assert.ok(
    extended()
      .slice(before)
      .every((event) => event.key === 'reservation-other'),
    'what was released is renewed no more',
  );
  assert.ok((await commandCalls(client)).pexpire > after);
});

test('without an interval, a third of the ttl is used', async (t) => {
  const server = await startServer(t);
  const renewals = async (interval) => {
    const log = keepLog();
    const start = performance.now();
    const reservation = makeReservation(t, server, { interval, ttl: 3, log });
    await reservation.lock(`job ${interval}`);
    await until(() => log.of('reservation-extended').length >= 4, {
      timeout: 20000,
      what: `renewals at ${interval}`,
    });
    return { interval, passed: log.of('reservation-extended')[3].at - start, held: reservation.held };
  };
  const values = [undefined, null, 0, -1, -Infinity, NaN];
  const all = await Promise.all(values.map(renewals));
  for (const { interval, passed, held } of all) {
    // Four times a second: no flood, and in time for the ttl.
    assert.ok(passed > 3000 && passed < 8000, `four renewals at ${interval} took ${passed} ms`);
    assert.equal(held, true);
  }
  const client = server.client();
  assert.equal((await client.keys('*')).length, values.length);
});

test('Infinity never renews', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  const log = keepLog();
  const reservation = makeReservation(t, server, { interval: Infinity, ttl: 2, log });
  const losses = keepLosses(reservation);
  const start = performance.now();
  await reservation.lock('job');
  await until(async () => !(await client.exists(key)), { timeout: 20000, what: 'the end of the key' });
  const passed = performance.now() - start;
  assert.ok(passed >= 1900, `${passed} ms`);
  await until(() => !reservation.held, { what: 'held is false' });
  assert.equal((await commandCalls(client)).pexpire, undefined);
  assert.deepEqual(log.of('reservation-extended'), []);
  await until(() => losses.length === 1, { what: 'the quiet loss' });
});

test('intervals of 2^31 ms and more do not flood', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  const ttl = 100 * 86400;
  const longs = [2 ** 31 - 1, 2 ** 31, 2 ** 31 + 5, 2 ** 32 + 1, 99 * 86400 * 1000].map((interval) =>
    makeReservation(t, server, { interval, ttl }),
  );
  for (const [index, reservation] of longs.entries())
    assert.equal(await reservation.lock(`long ${index}`), true);
  const log = keepLog();
  const short = makeReservation(t, server, { interval: 200, ttl, log });
  await short.lock('short');
  await until(() => log.of('reservation-extended').length >= 8, { what: 'renewals of the short one' });
  const pexpires = (await commandCalls(client)).pexpire;
  const extended = log.of('reservation-extended').length;
  assert.ok(Math.abs(pexpires - extended) <= 1, `${pexpires} renewals, ${extended} of the short one`);
  for (const reservation of longs) assert.equal(reservation.held, true);
  // The JS timer for a subclass sleeps in pieces. It must not flood either.
  let beats = 0;
  class Own extends require('../index.js') {
    ensure_reservation() {
      beats += 1;
    }
  }
  const own = makeReservation(t, server, { interval: 2 ** 31 + 5, ttl, Class: Own });
  await own.lock('own');
  const before = log.of('reservation-extended').length;
  await until(() => log.of('reservation-extended').length >= before + 4, { what: 'more renewals' });
  assert.equal(beats, 0);
});

test('each of several resources has its own heartbeat', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  const log = keepLog();
  const reservation = makeReservation(t, server, { interval: 400, ttl: 3, log });
  const names = ['a', 'b', 'c'];
  for (const name of names) await reservation.lock(name);
  const count = (name) =>
    log.of('reservation-extended').filter((event) => event.key === `reservation-${name}`).length;
  // Ten renewals of each lock take longer than the ttl.
  await until(() => names.every((name) => count(name) >= 10), { timeout: 20000, what: 'renewals of all' });
  assert.equal(await client.exists(...names.map((name) => `reservation-${name}`)), 3);
  assert.equal(await reservation.release('b'), 1);
  const before = count('b');
  await until(() => count('a') >= 13 && count('c') >= 13, { timeout: 20000, what: 'renewals of the others' });
  assert.equal(count('b'), before);
  assert.equal(await reservation.release(), 2);
});

test('10,000 held locks are all renewed in time', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  const reservation = makeReservation(t, server, { interval: 1000, ttl: 4 });
  const losses = keepLosses(reservation);
  const names = Array.from({ length: 10000 }, (_, index) => `job ${index}`);
  await Promise.all(names.map((name) => reservation.lock(name)));
  await until(async () => (await commandCalls(client)).pexpire >= 40000, {
    timeout: 60000,
    interval: 200,
    what: 'four renewals of each',
  });
  assert.equal(await client.dbsize(), 10000);
  assert.equal(reservation.held, true);
  assert.equal(await reservation.release(), 10000);
  assert.equal(await client.dbsize(), 0);
  assert.deepEqual(losses, []);
});

test('ensure_reservation that finds a loss logs no renewal of another lock', async (t) => {
  const [server, hung] = [await startServer(t), await startServer(t)];
  const log = keepLog();
  const reservation = makeReservation(t, server, { interval: 60000, log });
  await reservation.lock('lost');
  reservation.port = hung.port;
  await reservation.lock('unanswered');
  await server.client().del('reservation-lost');
  hung.pause();
  await assert.rejects(reservation.ensure_reservation(), {
    code: 'ERR_RESERVATION_LOST',
    lost: ['reservation-lost'],
  });
  assert.deepEqual(log.of('reservation-extended'), []);
  hung.resume();
  // If nothing is lost, it logs the renewal of all.
  await reservation.ensure_reservation();
  assert.deepEqual(
    log.of('reservation-extended').map((event) => event.key),
    ['reservation-unanswered'],
  );
  assert.equal(await reservation.release(), 1);
});

test('10,000 renewals that failed at once: some are retried soon, and the first success retries all', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  const user = (...rules) =>
    client.call('ACL', 'SETUSER', 'worker', 'on', '>secret', '+@all', 'resetkeys', ...rules);
  await user('~*');
  const options = { username: 'worker' };
  // None of these is due before the end of the test.
  const reservation = makeReservation(t, server, { interval: 30000, ttl: 60, password: 'secret', options });
  const losses = keepLosses(reservation);
  const names = Array.from({ length: 10000 }, (_, number) => `${number < 20 ? 'good' : 'bad'}-${number}`);
  // The allowed ones come first, since the shortest leases are validated first.
  const lockAll = (some) => Promise.all(some.map((name) => reservation.lock(name)));
  await lockAll(names.slice(0, 20));
  await lockAll(names.slice(20));
  const refused = async () => {
    const [, count] = /^errorstat_NOPERM:count=(\d+)/m.exec(await client.info('errorstats')) || [];
    return Number(count || 0);
  };
  const renewed = async () => (await commandCalls(client)).pexpire || 0;

  // A new connection: all are in doubt. The first few are tried; they succeed, so all others are tried at once.
  await user('~reservation-good-*');
  await client.call('CLIENT', 'KILL', 'TYPE', 'normal', 'USER', 'worker');
  await until(async () => (await refused()) >= 9980, { timeout: 20000, what: 'refusals of all others' });
  const start = performance.now();
  const soFar = await renewed();
  await user('~*');
  await until(async () => (await renewed()) >= soFar + 9980, {
    timeout: 20000,
    what: 'renewals of all of them',
  });
  const took = performance.now() - start;
  t.diagnostic(`all renewed ${took.toFixed(0)} ms after it`);
  // The retries of so many are spread over ten seconds. If none came soon, half of that would pass without one.
  assert.ok(took < 4000, `${took} ms`);
  assert.deepEqual(losses, []);
  assert.equal(await reservation.release(), names.length);
});

test('a renewal that is refused once is retried at once, however many others are refused for long', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  const log = keepLog();
  const many = makeReservation(t, server, { interval: 500, ttl: 60 });
  const one = makeReservation(t, server, { interval: 200, ttl: 60, log });
  await Promise.all(Array.from({ length: 20000 }, (_, number) => many.lock(`many-${number}`)));
  await one.lock('one');
  const allow = (keys) => client.call('ACL', 'SETUSER', 'default', 'resetkeys', `~${keys}`);
  await allow('reservation-one');
  const refused = async () => (await refusals(client, 'NOPERM')) >= 24000; // all of them, within a second or two
  await until(refused, { timeout: 30000, what: '24,000 refusals' });
  for (let round = 1; round <= 3; round += 1) {
    await allow('nothing');
    await until(() => log.of('expire-set-failed').length === round, { timeout: 30000, what: 'a refusal' });
    const soFar = log.of('reservation-extended').length;
    const start = performance.now();
    await allow('reservation-one');
    await until(() => log.of('reservation-extended').length > soFar, { timeout: 60000, what: 'a renewal' });
    const took = performance.now() - start;
    t.diagnostic(`renewed after ${took.toFixed(0)} ms`);
    assert.ok(took < 2000, `renewed after ${took} ms`); // the retries of the others are spread over 20 s
  }
  await client.call('ACL', 'SETUSER', 'default', 'allkeys');
});
