// One master of a cluster is lost, and the other shards go on without it (cluster-require-full-coverage no). So do their
// locks.
'use strict';

const assert = require('node:assert/strict');
const { after, afterEach, before, suite, test } = require('node:test');
const { until } = require('../support/wait');
const { startCluster } = require('./support/cluster');
const { clientsNamed, keyOf, namesOfShards, onCluster, patient, untilCopied } = require('./support/shards');
const { useSteadily } = require('./support/steady');
const { hold } = require('./support/workload');

suite('a shard without a master', () => {
  let cluster;

  before(async () => {
    cluster = await startCluster(null, { config: { 'cluster-require-full-coverage': 'no' } });
  });
  afterEach(async () => {
    for (const node of cluster.nodes) {
      if (node.paused) node.resume();
      else if (!node.awake) await node.start();
    }
    await cluster.waitUntilHealthy();
  });
  after(() => cluster.stop());

  for (const how of ['SIGKILL', 'SIGSTOP']) {
    test(`${how} under 102 locks: those of other shards are served meanwhile, and all are renewed afterwards`, async (t) => {
      const client_name = `under-${how}`;
      const names = namesOfShards(34, (number) => `${how} ${number}`);
      const settings = { interval: 400, ttl: 30, options: { client_name } };
      const holding = await hold(() => onCluster(t, cluster, settings), 102, { resources: names.flat() });
      const others = namesOfShards(1, (number) => `beside ${how} ${number}`).flat();
      const user = useSteadily(t, cluster, others.slice(1), { options: { client_name } });
      await untilCopied(cluster);
      const slot = cluster.slotOf(keyOf(names[0][0]));
      const start = performance.now();
      const first = await (how === 'SIGKILL' ? cluster.killMasterOf(slot) : cluster.pauseMasterOf(slot));
      const second = await cluster.waitForPromotion(slot, first);
      const promoted = performance.now();
      t.diagnostic(`a new master after ${(promoted - start).toFixed(0)} ms`);
      for (const name of names[0]) await second.command('PEXPIRE', keyOf(name), 15000);
      const isRenewed = async (name) => (await second.command('PTTL', keyOf(name))) > 16000;
      await until(async () => (await Promise.all(names[0].map(isRenewed))).every(Boolean), {
        ...patient,
        what: 'the renewal of all on the new master',
      });
      const renewed = performance.now() - promoted;
      const { longest, errors } = await user.stop();
      t.diagnostic(`all renewed there ${renewed.toFixed(0)} ms after it`);
      t.diagnostic(`a lock and a release on another shard took ${longest.toFixed(0)} ms at most`);
      holding.assertNoneLost();
      assert.deepEqual(errors, []);
      assert.ok(longest < 500, `${longest} ms on shards that were well`);
      assert.ok(renewed < 1500, `renewed after ${renewed} ms`);
      for (const node of cluster.awake) {
        const clients = await clientsNamed(node, client_name);
        assert.ok(clients.length <= 1, `${clients.length} connections to ${node.address}`);
      }
      assert.equal(await holding.release(), 102);
    });
  }

  test('a lease shorter than the failover: the loss is reported once and in time, and the key is never set again; other shards go on', async (t) => {
    const names = namesOfShards(3, (number) => `short ${number}`);
    const holding = await hold(() => onCluster(t, cluster, { interval: 200, ttl: 1 }), 9, {
      resources: names.flat(),
    });
    const slot = cluster.slotOf(keyOf(names[1][0]));
    const start = performance.now();
    const first = await cluster.killMasterOf(slot);
    const killed = performance.now();
    await until(() => holding.lost.length >= 3, { ...patient, what: 'the losses' });
    for (const { resource, losses } of holding.lost) {
      const { at, error } = losses[0];
      assert.ok(names[1].includes(resource), resource);
      assert.equal(error.code, 'ERR_RESERVATION_LOST');
      // The last renewal was sent at most about 200 ms before the kill, and the lease counts from the send.
      assert.ok(at - start > 400 && at - killed < 1150, `reported ${at - killed} ms after the end`);
    }
    const second = await cluster.waitForPromotion(slot, first);
    const promoted = performance.now();
    const seen = new Set();
    await until(
      async () => {
        for (const name of names[1]) seen.add(await second.command('GET', keyOf(name)));
        return performance.now() - promoted > 1200;
      },
      { ...patient, what: 'more than the ttl' },
    );
    assert.deepEqual([...seen], [null], 'no key was set again');
    assert.deepEqual(
      holding.lost.map(({ resource, losses }) => [resource, losses.length]),
      names[1].map((name) => [name, 1]),
    );
    const again = holding.lost.map(({ reservation, resource }) => reservation.lock(resource));
    assert.deepEqual(await Promise.all(again), [true, true, true]);
    assert.equal(holding.held.length, 9);
    assert.equal(await holding.release(), 9);
  });
});
