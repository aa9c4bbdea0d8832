// 0.4.0 and this package in one fleet: they exclude each other on the same keys, and wait for each other.
'use strict';

const assert = require('node:assert/strict');
const { test } = require('node:test');
const { startChild } = require('./support/child');
const { commandCalls } = require('./support/commands');
const { makeReservation, keepLog, keepLosses } = require('./support/reservation');
const { startServer } = require('./support/server');
const { until, within } = require('./support/wait');

async function prepare(t) {
  const server = await startServer(t);
  const child = startChild(t, '__test__/peers/original.coffee', { env: server.environment });
  const original = async (method, ...args) => {
    child.send({ method, args });
    return child.message({ method });
  };
  return { server, client: server.client(), child, original };
}

test('a lock of 0.4.0 is held, and renewed by it, until it releases', async (t) => {
  const { server, client, original } = await prepare(t);
  const { args, key, val } = await original('lock', 'job');
  assert.deepEqual([args, key], [[null, true], 'reservation-job']);
  const ours = makeReservation(t, server);
  assert.equal(await ours.lock('job'), false);
  const waiting = ours.wait_until_lock('job');
  // Longer than its ttl of 2 s: its heartbeat keeps it.
  await until(async () => (await commandCalls(client)).expire >= 8, { what: 'its renewals' });
  assert.equal(await client.get('reservation-job'), val);
  await original('release');
  assert.equal(await within(5000, waiting), 'reservation-job');
  assert.equal(await client.get('reservation-job'), ours._reserve_val);
});

test('our lock is held for 0.4.0, which acquires it when we release', async (t) => {
  const { server, client, child, original } = await prepare(t);
  const log = keepLog();
  const ours = makeReservation(t, server, { interval: 300, ttl: 2, log });
  const losses = keepLosses(ours);
  await ours.lock('job');
  assert.deepEqual((await original('lock', 'job')).args, [null, false]);
  child.send({ method: 'wait_until_lock', args: ['job'] });
  await until(() => log.of('reservation-extended').length >= 8, { what: 'renewals' });
  assert.equal(ours.held, true);
  assert.equal(await ours.release(), 1);
  const { val } = await child.message({ method: 'wait_until_lock' });
  assert.match(val, /^original-\d+$/);
  assert.equal(await client.get('reservation-job'), val);
  assert.equal(await ours.lock('job'), false);
  assert.deepEqual(losses, []);
});

test('when 0.4.0 deletes our key unchecked, the loss is reported, and the new holder is left alone', async (t) => {
  const { server, client, original } = await prepare(t);
  const ours = makeReservation(t, server, { interval: 2000 });
  const losses = keepLosses(ours);
  // Its lock has lapsed without its noticing. Its release deletes whatever the key holds.
  await original('lock', 'job');
  await client.del('reservation-job');
  await ours.lock('job');
  await original('release');
  await client.set('reservation-job', 'successor', 'EX', 600);
  await until(() => losses.length > 0, { what: 'the loss' });
  assert.equal(losses[0].holder, 'successor');
  assert.equal(await ours.release(), 0);
  assert.equal(await client.get('reservation-job'), 'successor');
});
