// All nodes of a cluster refuse CLUSTER SLOTS for a while, when a client has to ask. Commands under way are sent once: an
// acquired lock does not count as held by another, a finished release does not count as a loss.
'use strict';

const assert = require('node:assert/strict');
const { after, afterEach, before, suite, test } = require('node:test');
const { within } = require('../support/wait');
const { startCluster } = require('./support/cluster');
const { majorOf } = require('./support/looks');
const { callsOf, keyOf, namesOfShards, onCluster, patient, valueOf } = require('./support/shards');

suite('no node answers CLUSTER SLOTS', () => {
  let cluster;
  let skip;

  before(async () => {
    cluster = await startCluster(null, { replicas: 0, nodeTimeout: 30000 });
    skip = (await majorOf(cluster.nodes[0])) < 7 && 'redis 6.2 cannot take one subcommand from a user';
  });
  const onAll = (...command) => Promise.all(cluster.awake.map((node) => node.command(...command)));
  const say = (whether) => onAll('ACL', 'SETUSER', 'default', `${whether}cluster|slots`);
  afterEach(async () => {
    for (const node of cluster.nodes) if (node.paused) node.resume();
    await say('+');
  });
  after(() => cluster.stop());

  /** How often the nodes have refused. */
  async function refusals() {
    const texts = await onAll('INFO', 'commandstats');
    const counts = texts.map((text) => /cmdstat_cluster\|slots:.*rejected_calls=(\d+)/.exec(text) || [0, 0]);
    return counts.reduce((sum, [, count]) => sum + Number(count), 0);
  }

  /** Runs `start(reservation, name)`, whose command is under way at a hung node while all nodes refuse. */
  async function meanwhile(t, number, start) {
    const [[name, warm], others] = namesOfShards(3, (count) => `${t.name} ${number} ${count}`);
    const reservation = onCluster(t, cluster, {
      ttl: 60,
      options: { client_name: `once-${number}`, command_timeout: 10000 },
    });
    const [hung, , third] = cluster.nodes;
    for (const one of [name, ...others, warm]) assert.equal(await reservation.lock(one), true);
    for (const one of [name, ...others]) assert.equal(await reservation.release(one), 1);
    // A move that the client does not know yet, so that it has to ask.
    const slot = cluster.slotOf(keyOf(others[0]));
    await cluster.moveSlot(slot, third);
    await say('-');
    const begun = await start.before?.(reservation, name);
    hung.pause();
    const soFar = await refusals();
    const answer = start(reservation, name, begun);
    answer.catch(() => {});
    const moved = reservation.lock(others[0]).catch((error) => error);
    await within(patient.timeout, moved);
    assert.ok((await refusals()) > soFar, 'it was asked for');
    hung.resume();
    await say('+');
    const given = await within(patient.timeout, answer);
    return { given, name, reservation };
  }

  test('a SET under way: the lock answers true, and is sent once', async (t) => {
    if (skip) return t.skip(skip);
    for (let number = 0; number < 3; number += 1) {
      const { given, name, reservation } = await meanwhile(t, number, (one, resource) => one.lock(resource));
      const value = await valueOf(cluster, name);
      assert.equal(given, true, `the key has ${value}`);
      assert.ok(reservation.is_held(name));
      await reservation.release();
    }
  });

  test('a release under way answers 1, without a loss', async (t) => {
    if (skip) return t.skip(skip);
    for (let number = 0; number < 3; number += 1) {
      const release = (one, resource) => one.release(resource);
      release.before = (one, resource) => one.lock(resource);
      const { given, name, reservation } = await meanwhile(t, number, release);
      assert.equal(given, 1);
      assert.equal(await valueOf(cluster, name), null);
      await reservation.release();
    }
  });

  test('all calls go on by the old slots, and each redirection asks a few times for new ones', async (t) => {
    if (skip) return t.skip(skip);
    const [[name], [moved, more]] = namesOfShards(2, (count) => `${t.name} ${count}`);
    const reservation = onCluster(t, cluster, { ttl: 60, options: { client_name: 'going-on' } });
    const use = async (resource) => {
      assert.equal(await reservation.lock(resource), true);
      assert.equal(await reservation.release(resource), 1);
    };
    for (const one of [name, moved, more]) await use(one);
    await cluster.moveSlot(cluster.slotOf(keyOf(moved)), cluster.nodes[2]);
    await say('-');
    const soFar = await refusals();
    for (let times = 0; times < 10; times += 1) for (const one of [name, moved, more]) await use(one);
    await new Promise((resolve) => setTimeout(resolve, 1000)); // enough for thousands of questions
    const count = (await refusals()) - soFar;
    t.diagnostic(`asked ${count} times`);
    // A lock and a release of a moved slot are redirected ten times each.
    assert.ok(count > 0 && count <= 20 * 2 * cluster.nodes.length, `${count} times`);
  });

  test('on a healthy cluster, 10,000 locks in batches of 250 are one SET and one release each', async (t) => {
    const reservation = onCluster(t, cluster, { ttl: 60, options: { client_name: 'many' } });
    const use = async (resource) => {
      assert.equal(await reservation.lock(resource), true);
      assert.equal(await reservation.release(resource), 1);
    };
    // The nodes are connected, and have the script.
    for (const [name] of namesOfShards(1, (count) => `${t.name} ${count}`)) await use(name);
    const soFar = await callsOf(cluster);
    const one = async (number) => {
      for (let times = 0; times < 40; times += 1) await use(`many-${number}-${times}`);
    };
    await Promise.all(Array.from({ length: 250 }, (_, number) => one(number)));
    const calls = await callsOf(cluster);
    const more = (name) => calls[name] - (soFar[name] || 0);
    assert.deepEqual([more('set'), more('evalsha')], [10000, 10000]);
  });

  test('one node refuses and the others answer: a lock of a moved slot is sent to its new node', async (t) => {
    if (skip) return t.skip(skip);
    const reservation = onCluster(t, cluster, { ttl: 60, options: { client_name: 'one-refuses' } });
    const use = async (resource) => {
      assert.equal(await reservation.lock(resource), true);
      assert.equal(await reservation.release(resource), 1);
    };
    const [names] = namesOfShards(6, (count) => `${t.name} ${count}`);
    for (const name of names) await use(name);
    const moved = async () => {
      const texts = await onAll('INFO', 'errorstats');
      const counts = texts.map((text) => /errorstat_MOVED:count=(\d+)/.exec(text) || [0, 0]);
      return counts.reduce((sum, [, count]) => sum + Number(count), 0);
    };
    // Each node refuses in turn, whichever the client asks first.
    for (const [number, name] of names.entries()) {
      const node = cluster.nodes[number % cluster.nodes.length];
      await node.command('ACL', 'SETUSER', 'default', '-cluster|slots');
      await cluster.moveSlot(cluster.slotOf(keyOf(name)), cluster.nodes[2]);
      const soFar = await moved();
      for (let times = 0; times < 10; times += 1) await use(name);
      const count = (await moved()) - soFar;
      assert.ok(count <= 2, `sent on ${count} times of 20`);
      await node.command('ACL', 'SETUSER', 'default', '+cluster|slots');
    }
  });
});
