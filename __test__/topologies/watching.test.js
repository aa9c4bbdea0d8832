// Watched leases over TLS, with sentinels, and in a cluster: a foreign change is told minutes before the next renewal.
'use strict';

const assert = require('node:assert/strict');
const { after, before, suite, test } = require('node:test');
const { commandCalls } = require('../support/commands');
const { keepLosses } = require('../support/reservation');
const { until } = require('../support/wait');
const { certificates } = require('./support/certificates');
const { startCluster } = require('./support/cluster');
const { reserve } = require('./support/looks');
const { withoutTls } = require('./support/node');
const { keyOf, namesOfShards, onCluster } = require('./support/shards');
const { namesInSlots } = require('./support/slots');
const { startSteadySentinels, throughSentinels } = require('./support/through-sentinels');
const { startTlsServer } = require('./support/tls-server');

/** Renewed each ten minutes. */
const rarely = { interval: 600000, ttl: 1800 };

const patient = { timeout: 20000 };

async function looksAt(node) {
  const calls = await commandCalls({ info: (section) => node.command('INFO', section) });
  return calls['client|caching'] || 0;
}

/** Resolves once a node was asked for `count` reports more than `before`, and has answered. */
async function watchedAt(node, count, earlier = 0) {
  await until(async () => (await looksAt(node)) >= earlier + count, { ...patient, what: 'a watch' });
}

const lossOf = (losses, count = 1) => until(() => losses.length >= count, { ...patient, what: 'the loss' });

test('over TLS', { skip: withoutTls() }, async (t) => {
  const server = await startTlsServer(t);
  const reservation = reserve(t, server, { tls: { ca: certificates().ca.cert } }, rarely);
  const losses = keepLosses(reservation);
  await reservation.lock('job');
  await watchedAt(server, 1);
  await server.command('DEL', 'reservation-job');
  await lossOf(losses);
  assert.deepEqual([reservation.held, losses.length], [false, 1]);
});

test('with sentinels: the watch moves to the new master', async (t) => {
  const kit = await startSteadySentinels(t);
  const reservation = throughSentinels(t, kit, rarely);
  const losses = keepLosses(reservation);
  for (const name of ['job', 'other']) await reservation.lock(name);
  const first = await kit.master();
  await watchedAt(first, 2);
  await until(() => kit.isReplicated(first), { ...patient, what: 'replicas that have it all' });
  await first.kill();
  await until(async () => (await kit.master()) !== first, { ...patient, what: 'a new master' });
  const second = await kit.master();
  await watchedAt(second, 2);
  assert.deepEqual([reservation.held, losses], [true, []]);
  await second.command('SET', keyOf('job'), 'a thief', 'EX', 600);
  await lossOf(losses);
  assert.equal(losses[0].holder, 'a thief');
  assert.equal(reservation.is_held('other'), true);
});

suite('in a cluster', () => {
  let cluster;

  before(async () => {
    cluster = await startCluster(null);
  });
  after(() => cluster.stop());

  test('each node tells of its own keys', async (t) => {
    const names = namesOfShards(2, (number) => `watched ${number}`).flat();
    const reservation = onCluster(t, cluster, rarely);
    const losses = keepLosses(reservation);
    const masters = await cluster.masters();
    const earlier = await Promise.all(masters.map(looksAt));
    for (const name of names) await reservation.lock(name);
    await Promise.all(masters.map((node, index) => watchedAt(node, 2, earlier[index])));
    for (const [index, name] of names.entries()) {
      if (index % 2 === 0) await cluster.command(keyOf(name), 'DEL', keyOf(name));
      else await cluster.command(keyOf(name), 'SET', keyOf(name), 'a thief', 'EX', 600);
      await lossOf(losses, index + 1);
      assert.equal(losses[index].key, keyOf(name));
      assert.equal(losses[index].holder, index % 2 === 0 ? undefined : 'a thief');
    }
    assert.equal(await reservation.release(), 0);
  });

  test('FLUSHALL on one node is told to the holders of its keys, and to no others', async (t) => {
    const names = namesOfShards(3, (number) => `flushed ${number}`);
    const reservation = onCluster(t, cluster, rarely);
    const losses = keepLosses(reservation);
    const masters = await cluster.masters();
    const earlier = await Promise.all(masters.map(looksAt));
    for (const name of names.flat()) await reservation.lock(name);
    await Promise.all(masters.map((node, index) => watchedAt(node, 3, earlier[index])));
    await masters[1].command('FLUSHALL');
    await lossOf(losses, 3);
    assert.deepEqual(losses.map(({ key }) => key).sort(), names[1].map(keyOf).sort());
    assert.equal(await reservation.release(), 6);
  });

  test('a slot moves: the lease is kept, and watched on the new node', async (t) => {
    const slot = 200;
    const [name] = namesInSlots((one) => one === slot, 1);
    const to = await cluster.otherMaster(slot);
    const reservation = onCluster(t, cluster, rarely);
    const losses = keepLosses(reservation);
    const from = await cluster.nodeOf(keyOf(name));
    const earlier = await looksAt(from);
    await reservation.lock(name);
    await watchedAt(from, 1, earlier);
    const there = await looksAt(to);
    await cluster.moveSlot(slot, to);
    await watchedAt(to, 1, there);
    assert.deepEqual([reservation.held, losses], [true, []]);
    await to.command('DEL', keyOf(name));
    await lossOf(losses);
    assert.equal(losses.length, 1);
  });
});
