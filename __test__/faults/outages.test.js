// Outages: connections that are killed, closed for idleness or silently dead, and servers that go down. Locks are kept while
// possible, and a loss is reported once.
'use strict';

const assert = require('node:assert/strict');
const { test } = require('node:test');
const { commandCalls } = require('../support/commands');
const { patient, wait, loseOpenLinks, ran, passed } = require('../support/faults');
const { startProxy } = require('../support/proxy');
const { makeReservation, keepLog, keepLosses } = require('../support/reservation');
const { startServer } = require('../support/server');
const { until, watchWhile, within } = require('../support/wait');

const key = 'reservation-job';
const killAll = (client) => client.client('KILL', 'TYPE', 'normal');

test('a connection is killed while locks are held: all are validated again at once, and none is lost', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  // No regular renewal is due within this test.
  const reservation = makeReservation(t, server, { interval: 300000, ttl: 600 });
  const losses = keepLosses(reservation);
  const names = ['a', 'b', 'c'];
  for (const name of names) await reservation.lock(name);
  const { signal } = reservation;
  const { seen } = await watchWhile(
    async () => {
      for (let round = 1; round <= 4; round += 1) {
        assert.ok((await killAll(client)) >= 1);
        await until(async () => (await commandCalls(client)).pexpire >= round * names.length, {
          ...patient,
          what: 'validation',
        });
      }
    },
    () => reservation.held,
    5,
  );
  assert.ok(seen.every(Boolean), 'held all the time');
  assert.deepEqual([losses, signal.aborted], [[], false]);
  assert.equal(await client.exists(...names.map((name) => `reservation-${name}`)), 3);
  assert.equal(await reservation.lock('d'), true);
  assert.equal(await reservation.release(), 4);
});

test('calls in flight while connections are killed are answered, and each lock that succeeds has its key', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  const reservation = makeReservation(t, server);
  await reservation.lock('warm-up');
  let pending = 0;
  let kills = 0;
  const answers = [];
  for (let round = 0; round < 10; round += 1) {
    for (let index = 0; index < 20; index += 1) {
      const name = `job ${round} ${index}`;
      pending += 1;
      reservation.lock(name, (error, got) => {
        pending -= 1;
        answers.push({ name, error, got });
      });
    }
    kills += await killAll(client);
    await until(() => pending === 0, { ...patient, interval: 1, what: 'the answers' });
  }
  assert.equal(answers.length, 200, 'one answer each');
  assert.ok(kills >= 4, `${kills} connections were killed`);
  const failures = answers.filter(({ error, got }) => error || got !== true);
  assert.deepEqual(failures, [], 'a drop is mended within the limit of a call');
  assert.equal(await client.dbsize(), 201);
  assert.equal(await reservation.release(), 201);
  assert.equal(await client.dbsize(), 0);
});

test('callers notice nothing of a connection that redis closes for idleness', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  const log = keepLog();
  const holder = makeReservation(t, server, { interval: 300000, ttl: 600, log });
  const idle = makeReservation(t, server, { log });
  const losses = keepLosses(holder);
  await client.config('SET', 'timeout', '1');
  const connections = async () =>
    Number(/total_connections_received:(\d+)/.exec(await client.info('stats'))[1]);
  // A lock is held: the client reconnects by itself, and validates it.
  await holder.lock('job');
  await ran(client, 'pexpire', 1);
  assert.equal(holder.held, true);
  // Nothing is held: only the next call reconnects, and succeeds.
  await holder.release();
  const before = await connections();
  await until(async () => /connected_clients:1\r/.test(await client.info('clients')), {
    ...patient,
    what: 'the end of the idle connection',
  });
  assert.equal(await within(5000, idle.lock('job')), true);
  assert.equal(await connections(), before + 1);
  const errors = log.events.filter(({ level }) => level !== 'info');
  assert.deepEqual([errors, losses], [[], []]);
});

test('a call during which the connection breaks is sent again, and succeeds', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  const reservation = makeReservation(t, server);
  for (let round = 0; round < 8; round += 1) {
    const killing = killAll(client);
    assert.equal(await reservation.lock('job'), true, `round ${round}`);
    const killingAgain = killAll(client);
    assert.equal(await reservation.release(), 1, `round ${round}`);
    await Promise.all([killing, killingAgain]);
  }
  assert.equal(await client.dbsize(), 0);
});

test('connections that are reset or cut again and again: calls are answered, and leases are kept', async (t) => {
  const server = await startServer(t);
  const proxy = await startProxy(t, server);
  const client = server.client();
  const holder = makeReservation(t, proxy, { interval: 100, ttl: 10 });
  const losses = keepLosses(holder);
  await holder.lock('held');
  for (let round = 0; round < 12; round += 1) {
    const locking = holder.lock('job');
    if (round % 3) await new Promise(setImmediate);
    proxy.cut({ reset: round % 2 === 0 });
    assert.equal(await locking, true, `round ${round}`);
    assert.equal(await holder.release('job'), 1, `round ${round}`);
  }
  await ran(client, 'pexpire', 2);
  assert.deepEqual([holder.held, losses, await client.keys('*')], [true, [], ['reservation-held']]);
});

test('a restart without data: each loss is reported once, and no key is set again', async (t) => {
  const server = await startServer(t);
  const reservations = [1, 2, 3].map(() => makeReservation(t, server, { interval: 200 }));
  const losses = reservations.map(keepLosses);
  await Promise.all(reservations.flatMap((one, index) => [one.lock(`a ${index}`), one.lock(`b ${index}`)]));
  await server.restart({ down: 300 });
  const client = server.client();
  await until(() => losses.every((list) => list.length === 2), { ...patient, what: 'six losses' });
  for (const list of losses) {
    assert.deepEqual([...new Set(list.map(({ code }) => code))], ['ERR_RESERVATION_LOST']);
    assert.equal(new Set(list.map(({ key: lost }) => lost)).size, 2);
  }
  assert.equal(await reservations[0].lock('after'), true);
  // The new lock is renewed. The lost ones are neither renewed nor set.
  const before = await commandCalls(client);
  await ran(client, 'pexpire', 3);
  const { set } = await commandCalls(client);
  assert.deepEqual([before.set, set], [1, 1]);
  assert.deepEqual(await client.keys('*'), ['reservation-after']);
  assert.equal(losses.flat().length, 6);
});

test('a restart without data while thousands of locks are held: none counts as held for long', async (t) => {
  const server = await startServer(t);
  const count = 20000;
  const holder = makeReservation(t, server, { interval: 300000, ttl: 600 });
  const losses = keepLosses(holder);
  await Promise.all(Array.from({ length: count }, (_, index) => holder.lock(`job ${index}`)));
  await server.restart();
  // Anybody can acquire the keys now. Spread out, as on a server that refuses, the renewals would take 20 s.
  await until(() => losses.length === count, { timeout: 10000, what: `${count} losses` });
  assert.equal(holder._reserve_key, undefined);
  assert.equal(await holder.release(), 0);
});

test('a restart with data keeps held locks and waiters', async (t) => {
  const server = await startServer(t);
  const holder = makeReservation(t, server, { interval: 300, ttl: 20 });
  const losses = keepLosses(holder);
  await holder.lock('job');
  const waiting = wait(t, makeReservation(t, server), 'job');
  const client = server.client();
  await ran(client, 'set', 1);
  for (const down of [0, 1500]) {
    await server.restart({ data: true, down });
    assert.equal(holder.held, true);
    await ran(client, 'pexpire', 2);
  }
  assert.deepEqual([holder.held, losses], [true, []]);
  assert.equal(await client.get(key), holder._reserve_val);
  assert.equal(await holder.release(), 1);
  assert.equal(await within(20000, waiting), key);
});

test('redis is down for long: reconnecting has capped, jittered pauses, and succeeds by itself', async (t) => {
  const server = await startServer(t);
  const proxy = await startProxy(t, server);
  const log = keepLog();
  const holder = makeReservation(t, proxy, { interval: 300, ttl: 2, log });
  const losses = keepLosses(holder);
  await holder.lock('job');
  const waiting = wait(t, makeReservation(t, proxy, { log }), 'job');
  await ran(server.client(), 'set', 1);
  await server.kill();
  const attempts = [];
  const { connect } = proxy;
  proxy.connect = (socket) => {
    attempts.push(performance.now());
    connect.call(proxy, socket);
  };
  const start = performance.now();
  await until(() => losses.length > 0, { ...patient, what: 'the loss' });
  assert.ok(performance.now() - start < 4000, 'at the deadline, though redis is away');
  await passed(start, 3500);
  const pauses = attempts.slice(1).map((at, index) => at - attempts[index]);
  const late = pauses.slice(6);
  assert.ok(attempts.length >= 10 && attempts.length <= 45, `${attempts.length} attempts in 3.5 s`);
  assert.ok(Math.max(...late) < 1500, `no pause is longer than the cap: ${late}`);
  assert.ok(Math.max(...late) - Math.min(...late) > 30, `jittered: ${late}`);
  // A call meanwhile ends with an error.
  await assert.rejects(within(5000, holder.lock('other')), { code: 'ERR_REDIS_CONNECTION' });
  await server.start();
  assert.equal(await within(20000, waiting), key);
  assert.equal(await holder.lock('other'), true);
  await ran(server.client(), 'pexpire', 4);
  assert.deepEqual([holder.held, losses.length], [true, 1]);
  const failed = log.of('expire-set-failed');
  assert.ok(failed.length >= 1 && failed.length <= 3, `said, and not over and over: ${failed.length}`);
});

test('an outage is logged, by holders and by instances that only wait', async (t) => {
  const server = await startServer(t);
  await server.command('SET', key, 'other');
  const logs = [keepLog(), keepLog()];
  const [holder, waiter] = logs.map((log) => makeReservation(t, server, { interval: 200, log }));
  await holder.lock('mine');
  const waiting = wait(t, waiter, 'job');
  await ran(server.client(), 'set', 1);
  await server.restart({ data: true, down: 700 });
  await server.client().del(key);
  await within(20000, waiting);
  assert.equal(holder.held, true);
  const titles = logs.map((log) =>
    log.events.filter(({ level }) => level === 'error').map(({ title }) => title),
  );
  assert.ok(titles[0].includes('redis-error') || titles[0].includes('expire-set-failed'), `${titles[0]}`);
  assert.ok(titles[1].includes('redis-error'), `the waiter's lines: ${titles[1]}`);
  for (const event of logs.flatMap((log) => log.of('redis-error'))) {
    assert.deepEqual([event.host, event.port], [server.host, server.port]);
    assert.match(event.err, /^Error: /);
  }
});

test('a silently dead link: the lease is kept through a new link', async (t) => {
  const server = await startServer(t);
  const proxy = await startProxy(t, server);
  const client = server.client();
  const reservation = makeReservation(t, proxy, { interval: 500, ttl: 4 });
  const losses = keepLosses(reservation);
  await reservation.lock('job');
  const { accepted } = proxy;
  loseOpenLinks(proxy);
  await until(() => proxy.accepted > accepted, { ...patient, what: 'a new connection' });
  await ran(client, 'pexpire', 3);
  assert.deepEqual([reservation.held, losses], [true, []]);
  assert.equal(await reservation.release(), 1);
});

test('a waiter on a silently dead link notices by itself', async (t) => {
  const server = await startServer(t);
  const proxy = await startProxy(t, server);
  const client = server.client();
  await client.set(key, 'other');
  const reservation = makeReservation(t, proxy, { ttl: 3 });
  const waiting = wait(t, reservation, 'job');
  await ran(client, 'set', 1);
  loseOpenLinks(proxy);
  await client.del(key);
  assert.equal(await within(20000, waiting), key);
  assert.equal(await client.get(key), reservation._reserve_val);
});

test('a path that is dead for old and new connections: the lock is lost at its deadline, and no key stays', async (t) => {
  const server = await startServer(t);
  const proxy = await startProxy(t, server);
  const client = server.client();
  const reservation = makeReservation(t, proxy, { interval: 400, ttl: 3 });
  const losses = keepLosses(reservation);
  const start = performance.now();
  await reservation.lock('job');
  proxy.stall();
  await until(() => !reservation.held, { ...patient, interval: 5, what: 'the deadline' });
  const over = performance.now() - start;
  assert.ok(over >= 2900 && over < 4500, `${over} ms`);
  await until(() => losses.length > 0, { timeout: 2000, what: 'the loss' });
  // The stalled renewals arrive now, and must not revive the lock.
  proxy.heal();
  await until(async () => !(await client.exists(key)), { ...patient, what: 'a free key' });
  assert.equal(await reservation.lock('job'), true);
  await ran(client, 'pexpire', 2);
  assert.deepEqual([reservation.held, losses.length], [true, 1]);
});
