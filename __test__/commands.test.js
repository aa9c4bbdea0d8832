// How many commands each call sends: one for an uncontended lock, a release or a renewal, none for refused arguments. INFO
// commandstats counts them, and also the commands inside a script: a release is one EVALSHA with a GET and a DEL, a renewal
// one EVALSHA with a GET and a PEXPIRE.
'use strict';

const assert = require('node:assert/strict');
const { test } = require('node:test');
const { commandCalls, countCommands } = require('./support/commands');
const { makeReservation, keepLog } = require('./support/reservation');
const { startServer } = require('./support/server');
const { until } = require('./support/wait');

/** A server, a client that counts its commands, and a function that makes reservations whose connection is up. */
async function prepare(t, settings = {}) {
  const server = await startServer(t);
  const client = server.client();
  await client.ping();
  const reservation = makeReservation(t, server, settings);
  await reservation.lock('warm-up');
  await reservation.ensure_reservation();
  await reservation.release();
  return { server, client, reservation };
}

/** The commands of renewals. Before redis 7, which brought PEXPIRE … GT, each has a PTTL as well. */
async function renewals(client, count) {
  const version = /^redis_version:(\d+)/m.exec(await client.info('server'))[1];
  const calls = { evalsha: count, get: count, pexpire: count };
  return Number(version) < 7 ? { ...calls, pttl: count } : calls;
}

/** Waits until a renewal would change the ttl, which redis counts in milliseconds. */
const aged = (client) =>
  until(async () => (await client.pttl('reservation-job')) < 30000, { interval: 1, what: 'a millisecond' });

test('an uncontended lock is one SET, with or without a log', async (t) => {
  for (const log of [false, keepLog()]) {
    const { client, reservation } = await prepare(t, { log });
    const { calls, value } = await countCommands(client, () => reservation.lock('job'));
    assert.equal(value, true);
    assert.deepEqual(calls, { set: 1 });
  }
});

test('a release is one script', async (t) => {
  const { client, reservation } = await prepare(t);
  await reservation.lock('job');
  const { calls, value } = await countCommands(client, () => reservation.release());
  assert.equal(value, 1);
  assert.deepEqual(calls, { evalsha: 1, get: 1, del: 1 });
});

test('a renewal by ensure_reservation is one script', async (t) => {
  const { client, reservation } = await prepare(t);
  await reservation.lock('job');
  await aged(client);
  const { calls } = await countCommands(client, () => reservation.ensure_reservation());
  assert.deepEqual(calls, await renewals(client, 1));
});

test('a renewal by the heartbeat is one script', async (t) => {
  const { client, reservation } = await prepare(t, { interval: 200, ttl: 30 });
  await reservation.lock('job');
  const { calls } = await countCommands(client, async () => {
    const before = (await commandCalls(client)).pexpire || 0;
    await until(async () => (await commandCalls(client)).pexpire >= before + 4, { what: 'four renewals' });
  });
  const count = calls.evalsha;
  assert.ok(count >= 4);
  // The counting itself sends INFO, which does not count.
  delete calls.info;
  assert.deepEqual(calls, await renewals(client, count));
});

test('many locks at once are one SET each', async (t) => {
  const { client, reservation } = await prepare(t);
  const names = Array.from({ length: 200 }, (_, index) => `job ${index}`);
  const locking = await countCommands(client, () => Promise.all(names.map((name) => reservation.lock(name))));
  assert.deepEqual(locking.calls, { set: 200 });
  const releasing = await countCommands(client, () => reservation.release());
  assert.equal(releasing.value, 200);
  assert.deepEqual(releasing.calls, { evalsha: 200, get: 200, del: 200 });
});

test('a contended lock is one SET, and at most one read', async (t) => {
  for (const [log, reads] of [
    [false, 0],
    [keepLog(), 1],
  ]) {
    const { client, reservation } = await prepare(t, { log });
    await client.set('reservation-job', 'other');
    const { calls, value } = await countCommands(client, () => reservation.lock('job'));
    assert.equal(value, false);
    const { get = 0, ...others } = calls;
    assert.deepEqual(others, { set: 1 });
    assert.ok(get <= reads, `${get} reads`);
  }
});

test('a release or a renewal with nothing held sends nothing', async (t) => {
  const { client, reservation } = await prepare(t);
  const { calls } = await countCommands(client, async () => {
    assert.equal(await reservation.release(), 0);
    assert.equal(await reservation.release('job'), 0);
    await assert.rejects(reservation.ensure_reservation(), { code: 'ERR_RESERVATION_NOT_HELD' });
  });
  assert.deepEqual(calls, {});
});

test('after SCRIPT FLUSH the script is sent once more, and callers notice nothing', async (t) => {
  const { client, reservation } = await prepare(t);
  await reservation.lock('job');
  await client.script('FLUSH');
  await aged(client);
  const first = await countCommands(client, () => reservation.ensure_reservation());
  assert.equal(first.calls.pexpire, 1);
  assert.ok(first.calls.eval === 1 || first.calls['script|load'] === 1, JSON.stringify(first.calls));
  await aged(client);
  const second = await countCommands(client, () => reservation.ensure_reservation());
  assert.deepEqual(second.calls, await renewals(client, 1));
  await client.script('FLUSH');
  assert.equal(await reservation.release(), 1);
  assert.equal(await client.exists('reservation-job'), 0);
});

test('refused arguments and fields open no connection', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  await client.ping();
  const connections = async () =>
    Number(/total_connections_received:(\d+)/.exec(await client.info('stats'))[1]);
  const before = await connections();
  const { calls } = await countCommands(client, async () => {
    const refusals = [];
    for (const resource of [undefined, null, '', {}, () => {}, Symbol('s'), [], Buffer.alloc(0)]) {
      const reservation = makeReservation(t, server);
      refusals.push(reservation.lock(resource), reservation.wait_until_lock(resource));
    }
    for (const ttl of [undefined, 0, -1, NaN, Infinity, 'soon', {}]) {
      const reservation = makeReservation(t, server);
      reservation.lock_ttl = ttl;
      refusals.push(reservation.lock('job'), reservation.wait_until_lock('job'));
    }
    const misspelled = makeReservation(t, server, { options: { conect_timeout: 100 } });
    refusals.push(misspelled.lock('job'), misspelled.wait_until_lock('job'));
    refusals.push(makeReservation(t, server).wait_until_lock('job', { timeuot: 5 }));
    refusals.push(makeReservation(t, server).lock('job', 'not a function'));
    for (const { status } of await Promise.allSettled(refusals)) assert.equal(status, 'rejected');
  });
  delete calls.info;
  assert.deepEqual(calls, {});
  assert.equal(await connections(), before);
});
