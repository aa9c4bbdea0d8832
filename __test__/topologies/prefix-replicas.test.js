// key_prefix, which separates several sets of locks in one redis; and min_replicas: a lock without enough replicas is given
// back.
'use strict';

const assert = require('node:assert/strict');
const { test } = require('node:test');
const { commandCalls } = require('../support/commands');
const { ran, setOf } = require('../support/faults');
const { startProxy } = require('../support/proxy');
const { keepLosses } = require('../support/reservation');
const { until } = require('../support/wait');
const { connections, errorOf, patient, reserve, wakeUp } = require('./support/looks');
const { startNode } = require('./support/node');

test('a prefix changes the key, and locks with different prefixes do not exclude each other', async (t) => {
  const server = await startNode(t);
  const client = server.client();
  const [usual, one, other] = [{}, { key_prefix: 'shop:' }, { key_prefix: 'shop:' }].map((options) =>
    reserve(t, server, options),
  );
  assert.equal(await one.lock('job'), true);
  assert.equal(one._reserve_key, 'shop:job');
  assert.equal(await client.get('shop:job'), one._reserve_val);
  assert.equal(await other.lock('job'), false, 'the same prefix');
  assert.equal(await usual.lock('job'), true, 'another');
  assert.equal(await usual.lock('shop:job'), true, 'a prefix is no part of the name');
  assert.deepEqual((await client.keys('*')).sort(), ['reservation-job', 'reservation-shop:job', 'shop:job']);
  assert.deepEqual([one.is_held('job'), one.is_held('shop:job'), other.is_held('job')], [true, false, false]);
  assert.deepEqual([usual.is_held('job'), usual.is_held('shop:job')], [true, true]);
  // The name of no held resource, and most likely a key that a promise has passed on.
  assert.equal((await errorOf(one.release('shop:job'))).code, 'ERR_INVALID_ARG_TYPE');
  assert.equal(await one.release('job'), 1);
  assert.deepEqual([one.is_held('job'), await client.exists('shop:job')], [false, 0]);
  assert.equal(await other.lock('job'), true);
});

test('a prefix may be empty, and may contain any characters of UTF-8', async (t) => {
  const server = await startNode(t);
  const client = server.client();
  for (const key_prefix of ['', 'réservé {1} ', '-']) {
    const reservation = reserve(t, server, { key_prefix }, { interval: 100 });
    const losses = keepLosses(reservation);
    assert.equal(await reservation.lock('job'), true);
    assert.deepEqual(await client.keys('*'), [`${key_prefix}job`]);
    await ran(client, 'pexpire', 2);
    assert.deepEqual([reservation.is_held('job'), losses], [true, []]);
    assert.equal(await reservation.release(), 1);
    assert.equal(await client.dbsize(), 0);
  }
});

test('waiters with a prefix wake by the server, and get hand-overs within the process', async (t) => {
  const server = await startNode(t);
  const client = server.client();
  const [one, other] = [1, 2].map(() => reserve(t, server, { key_prefix: 'shop:' }));
  assert.ok((await wakeUp(server, one, 'job', { key: 'shop:job' })) < 700);
  const waiting = other.wait_until_lock('job', { timeout: patient.timeout });
  await ran(client, 'set');
  assert.equal(await one.release('job'), 1);
  assert.equal(await waiting, 'shop:job');
  assert.equal(await client.get('shop:job'), other._reserve_val);
});

/** A replica of a server, in sync with it. */
async function attach(t, server) {
  const replica = await startNode(t, { config: { replicaof: `${server.host} ${server.port}` } });
  const online = /slave0:.*state=online/;
  await until(async () => online.test(await server.command('INFO', 'replication')), {
    ...patient,
    what: 'a replica that is in touch',
  });
  // It counts only after its first acknowledgement.
  await server.command('SET', 'a mark', '', 'PX', 5000);
  await until(async () => (await server.command('WAIT', 1, 500)) > 0, { ...patient, what: 'its word' });
  await server.client().call('CONFIG', 'RESETSTAT');
  return replica;
}

test('with too few replicas a lock is given back, and the error says so', async (t) => {
  const server = await startNode(t);
  const key = 'reservation-job';
  await reserve(t, server, {}).lock('first');
  const [{ id }] = await connections(server);
  // The last try has little time left. The error must not be that of this try.
  for (const command_timeout of [300, 300, 400, 500]) {
    const reservation = reserve(t, server, { min_replicas: 1, command_timeout });
    const error = await errorOf(reservation.lock('job'));
    assert.equal(error.code, 'ERR_TOO_FEW_REPLICAS', `${command_timeout} ms: ${error.message}`);
    assert.ok(
      error.message.startsWith(`${key} reached 0 of the 1 replicas of ${server.address} `),
      error.message,
    );
    assert.deepEqual([reservation.held, reservation._reserve_key], [false, undefined]);
    const isGone = async () => (await server.command('EXISTS', key)) === 0;
    await until(isGone, { ...patient, what: 'the end of the key, long before its ttl' });
  }
  assert.ok(
    (await connections(server)).some((client) => client.id === id),
    'no connection was lost for it',
  );
  assert.equal(await reserve(t, server, {}).lock('job'), true, 'a lock without min_replicas is not delayed');
});

test('with enough replicas a lock succeeds, and they have its key', async (t) => {
  const server = await startNode(t);
  const replica = await attach(t, server);
  const reservation = reserve(t, server, { min_replicas: '1' }, { interval: 100 });
  assert.equal(await reservation.lock('job'), true);
  assert.equal(await replica.command('GET', 'reservation-job'), reservation._reserve_val);
  assert.equal((await commandCalls(server.client())).wait, 1);
  assert.equal(await reserve(t, server, { min_replicas: 1 }).lock('job'), false, 'it is held');
  await ran(server.client(), 'pexpire', 2);
  assert.equal(await reservation.release(), 1);
  const two = reserve(t, server, { min_replicas: 2, command_timeout: 1000 });
  const error = await errorOf(two.lock('job'));
  assert.equal(error.code, 'ERR_TOO_FEW_REPLICAS');
  assert.match(error.message, /reached 1 of the 2 replicas/);
});

test('a wait goes on until there are enough replicas', async (t) => {
  const server = await startNode(t);
  const reservation = reserve(t, server, { min_replicas: 1, command_timeout: 500 });
  let had = false;
  const waiting = reservation.wait_until_lock('job', { timeout: patient.timeout }).then((key) => {
    had = true;
    return key;
  });
  waiting.catch(() => {});
  const waits = async () => (await commandCalls(server.client())).wait >= 2;
  await until(waits, { ...patient, what: 'failed tries' });
  assert.deepEqual([had, reservation.held], [false, false]);
  const replica = await attach(t, server);
  assert.equal(await waiting, 'reservation-job');
  assert.equal(reservation.held, true);
  assert.equal(await replica.command('GET', 'reservation-job'), reservation._reserve_val);
  assert.equal(await reservation.release(), 1);
});

test('a lock whose reply is lost still needs its replicas', async (t) => {
  const server = await startNode(t);
  const proxy = await startProxy(t, server);
  const reservation = reserve(t, proxy, { min_replicas: 1, command_timeout: 1000 });
  const lost = proxy.dropReply(setOf('reservation-job'));
  const locking = errorOf(reservation.lock('job'));
  locking.catch(() => {});
  await lost;
  proxy.heal();
  assert.equal((await locking).code, 'ERR_TOO_FEW_REPLICAS');
  assert.equal(reservation.held, false);
  const isGone = async () => (await server.command('EXISTS', 'reservation-job')) === 0;
  await until(isGone, { ...patient, what: 'the end of the key, long before its ttl' });
});

test('a lock that waits for replicas does not delay locks without min_replicas', async (t) => {
  const server = await startNode(t);
  const client = server.client();
  const strict = reserve(t, server, { min_replicas: 1 }, { ttl: 30, interval: 10000 });
  // Less than the half second of the other lock's try: queued behind it, each of these would fail.
  const usual = reserve(t, server, { command_timeout: 400 }, { interval: 50 });
  const losses = keepLosses(usual);
  await usual.lock('own');
  const stopping = new AbortController();
  t.after(() => stopping.abort());
  const waiting = strict.wait_until_lock('strict', { signal: stopping.signal }).catch((error) => error);
  await until(async () => (await commandCalls(client)).set > 1, { ...patient, what: 'its try' });
  for (let round = 0; round < 5; round += 1) {
    assert.equal(await usual.lock(`job ${round}`), true);
    await usual.ensure_reservation();
    await ran(client, 'set'); // the next try
  }
  assert.deepEqual([usual.held, losses], [true, []]);
  stopping.abort();
  await waiting;
});
