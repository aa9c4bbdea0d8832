// Nodes of a cluster that hang, without replicas: locks of other shards are not affected, and those of the hung nodes recover
// with them. (With replicas: cluster-coverage.test.js.)
'use strict';

const assert = require('node:assert/strict');
const { afterEach, after, before, suite, test } = require('node:test');
const { startChild } = require('../support/child');
const { until, within } = require('../support/wait');
const { startBlackHole } = require('./support/black-hole');
const { certificates } = require('./support/certificates');
const { startCluster } = require('./support/cluster');
const { withoutTls } = require('./support/node');
const { keyOf, namesOfShards, onCluster, patient, wait } = require('./support/shards');
const { useSteadily } = require('./support/steady');
const { hold } = require('./support/workload');

const withoutReplicas = {
  replicas: 0,
  nodeTimeout: 3000,
  config: { 'cluster-require-full-coverage': 'no' },
};

// Longer than an unrenewed lease of the healthy shards.
const [ttl, hungFor] = [3, 5000];

/** How many connections a node has accepted so far. */
async function accepted(node) {
  return Number(/total_connections_received:(\d+)/.exec(await node.command('INFO', 'stats'))[1]);
}

let run = 0;

/**
 * Holds locks on every shard, with waiters on those of the nodes `bad`, which are broken for a while: `fail()`, then
 * `mend()`. Nothing is lost, other shards are as fast as before, and the waiters acquire their locks right after the end.
 */
async function endure(t, cluster, { bad, fail, mend, options, limit = 1000 }) {
  run += 1;
  const client_name = `run-${run}`; // so that it has a separate connection
  const settings = { options: { client_name, ...options } };
  const names = namesOfShards(20, (number) => `held ${run} ${number}`);
  const more = namesOfShards(1, (number) => `more ${run} ${number}`);
  const others = namesOfShards(1, (number) => `used ${run} ${number}`).filter(
    (_, place) => !bad.includes(place),
  );
  const [hung, healthy] = [bad, [0, 1, 2].filter((place) => !bad.includes(place))].map((places) =>
    places.flatMap((place) => names[place]),
  );
  const there = await hold(() => onCluster(t, cluster, { ...settings, ttl: 300 }), hung.length, {
    resources: hung,
  });
  const here = await hold(() => onCluster(t, cluster, { ...settings, ttl }), healthy.length, {
    resources: healthy,
  });
  const waiters = hung.map((name) => wait(t, onCluster(t, cluster, settings), name, { timeout: 60000 }));
  const user = useSteadily(t, cluster, others.flat(), settings);
  await until(() => user.seen.count > 20, { ...patient, what: 'locks before it' });
  const start = performance.now();
  await fail();
  const enough = () => performance.now() - start > hungFor && user.seen.count > 100;
  await until(enough, { ...patient, what: 'locks meanwhile' });
  const error = await onCluster(t, cluster, settings)
    .lock(more[bad[0]][0])
    .catch((failure) => failure);
  await mend();
  const mended = performance.now();
  const again = onCluster(t, cluster, settings);
  for (const place of bad) {
    const [name] = namesOfShards(1, (number) => `again ${run} ${number}`)[place];
    await until(() => again.lock(name).catch(() => false), { ...patient, what: 'a lock there again' });
  }
  const back = performance.now() - mended;
  assert.equal(await there.release(), hung.length);
  await within(patient.timeout, Promise.all(waiters), 'the waiters');
  const served = performance.now() - mended;
  const { longest, errors } = await user.stop();
  t.diagnostic(`a lock and a release on another shard took ${longest.toFixed(0)} ms at most`);
  t.diagnostic(`back after ${back.toFixed(0)} ms, all waiters served after ${served.toFixed(0)} ms`);
  t.diagnostic(`meanwhile there: ${error.message}`);
  here.assertNoneLost();
  assert.deepEqual(there.lost, []);
  assert.deepEqual(errors, []);
  assert.ok(longest < limit, `${longest} ms on a shard that was well`);
  assert.ok(back < 2000, `back after ${back} ms`);
  assert.ok(served < 4000, `served after ${served} ms`);
  assert.equal(await here.release(), healthy.length);
}

/** SIGSTOP and SIGCONT for these nodes of the cluster. */
const stopping = (cluster, bad) => ({
  bad,
  fail: () => bad.forEach((place) => cluster.nodes[place].pause()),
  mend: () => bad.forEach((place) => cluster.nodes[place].resume()),
});

suite('without replicas', () => {
  let cluster;

  before(async () => {
    cluster = await startCluster(null, withoutReplicas);
  });
  afterEach(async () => {
    for (const node of cluster.nodes) {
      if (node.paused) node.resume();
      else if (!node.awake) await node.start();
    }
    await cluster.waitUntilHealthy();
  });
  after(() => cluster.stop());

  test('a node hangs: other shards are not affected, and it gets at most a few connections a second', async (t) => {
    const earlier = await accepted(cluster.nodes[0]);
    const start = performance.now();
    await endure(t, cluster, stopping(cluster, [0]));
    const connects = (await accepted(cluster.nodes[0])) - earlier;
    const seconds = (performance.now() - start) / 1000;
    t.diagnostic(`${connects} connections to it in ${seconds.toFixed(1)} s`);
    // Plus those of the other nodes and of the kit.
    assert.ok(connects < 4 * seconds + 10, `${connects} in ${seconds} s`);
  });

  test('a node is down: connections are refused', async (t) => {
    const [, node] = cluster.nodes;
    const names = namesOfShards(20, (number) => `gone ${number}`);
    const settings = { ttl, options: { client_name: 'gone' } };
    const here = await hold(() => onCluster(t, cluster, settings), 40, {
      resources: [...names[0], ...names[2]],
    });
    const [first, , third] = namesOfShards(1, (number) => `beside gone ${number}`);
    const user = useSteadily(t, cluster, [...first, ...third], settings);
    await until(() => user.seen.count > 20, { ...patient, what: 'locks before it' });
    await node.kill();
    const start = performance.now();
    const waiter = wait(t, onCluster(t, cluster, settings), names[1][1], { timeout: 60000 });
    await until(() => performance.now() - start > hungFor, patient);
    const error = await onCluster(t, cluster, settings)
      .lock(names[1][2])
      .catch((failure) => failure);
    assert.equal(error.code, 'ERR_REDIS_CONNECTION', error.message);
    assert.match(error.message, new RegExp(`connect ECONNREFUSED 127.0.0.1:${node.port}`));
    assert.equal(error.cause.code, 'ECONNREFUSED');
    await node.start();
    const started = performance.now();
    await within(patient.timeout, waiter, 'the waiter');
    t.diagnostic(`served ${(performance.now() - started).toFixed(0)} ms after its start`);
    const { longest, errors } = await user.stop();
    t.diagnostic(`a lock and a release on another shard took ${longest.toFixed(0)} ms at most`);
    here.assertNoneLost();
    assert.deepEqual(errors, []);
    assert.ok(longest < 1000, `${longest} ms`);
    assert.equal(await here.release(), 40);
  });

  test('a node hangs, comes back, and hangs again at once', async (t) => {
    const flicker = async () => {
      const [node] = cluster.nodes;
      const [[name]] = namesOfShards(1, (number) => `flicker ${number}`);
      const reservation = onCluster(t, cluster, {
        options: { client_name: `run-${run}`, command_timeout: 2000 },
      });
      node.pause();
      for (let times = 0; times < 3; times += 1) {
        const error = await reservation.lock(name).catch((failure) => failure);
        assert.equal(error.cause && error.cause.code, 'ETIMEDOUT', `${error.message || error}`);
        node.resume();
        await until(() => reservation.lock(name).catch(() => false), patient);
        node.pause();
        await reservation.release().catch(() => {});
      }
    };
    await endure(t, cluster, { ...stopping(cluster, [0]), fail: flicker });
  });

  test('10,000 locks on a hung node do not block those of other nodes', async (t) => {
    const [hung, [name]] = namesOfShards(10000, (number) => `many ${number}`);
    const settings = { options: { client_name: 'many', command_timeout: 4000 } };
    const [many, other] = [onCluster(t, cluster, settings), onCluster(t, cluster, settings)];
    assert.equal(await other.lock(name), true);
    assert.equal(await other.release(), 1);
    cluster.nodes[0].pause();
    const locks = hung.map((resource) => many.lock(resource).catch(({ code }) => code));
    const start = performance.now();
    assert.equal(await other.lock(name), true);
    const had = performance.now() - start;
    t.diagnostic(`a lock beside them took ${had.toFixed(0)} ms`);
    cluster.nodes[0].resume();
    const answers = await within(patient.timeout, Promise.all(locks), 'the ten thousand');
    const count = answers.filter((answer) => answer === true).length;
    t.diagnostic(`${count} of 10000 were acquired after all`);
    assert.ok(had < 700, `${had} ms`);
    assert.equal(await many.release(), count);
    assert.equal(await other.release(), 1);
  });

  test('a node hangs while the first connection to the cluster is made', async (t) => {
    const [[hung], [name]] = namesOfShards(1, (number) => `first ${number}`);
    cluster.nodes[0].pause();
    const reservation = onCluster(t, cluster, { options: { client_name: 'first' } });
    const start = performance.now();
    assert.equal(await reservation.lock(name), true);
    const had = performance.now() - start;
    t.diagnostic(`a lock on another shard after ${had.toFixed(0)} ms`);
    assert.ok(had < 1500, `${had} ms`);
    const waiting = wait(t, reservation, hung, { timeout: 60000 });
    cluster.nodes[0].resume();
    assert.equal(await within(5000, waiting), keyOf(hung));
    assert.equal(await reservation.release(), 2);
  });

  test('all nodes hang, and go on', async (t) => {
    const names = namesOfShards(5, (number) => `all ${number}`).flat();
    const settings = { ttl: 20, interval: 1000, options: { client_name: 'all' } };
    const holding = await hold(() => onCluster(t, cluster, settings), names.length, { resources: names });
    const [[name]] = namesOfShards(1, (number) => `in vain ${number}`);
    for (const node of cluster.nodes) node.pause();
    const start = performance.now();
    const waiting = wait(t, onCluster(t, cluster, settings), name, { timeout: 60000 });
    const busy = process.cpuUsage();
    await until(() => performance.now() - start > hungFor, patient);
    const { user, system } = process.cpuUsage(busy);
    const error = await onCluster(t, cluster, settings)
      .lock(`${name} too`)
      .catch((failure) => failure);
    assert.match(error.code, /ERR_REDIS_(CONNECTION|TIMEOUT)/, error.message);
    for (const node of cluster.nodes) node.resume();
    const resumed = performance.now();
    await within(patient.timeout, waiting, 'the waiter');
    t.diagnostic(`served ${(performance.now() - resumed).toFixed(0)} ms after their return`);
    t.diagnostic(`${((user + system) / 10000 / (hungFor / 1000)).toFixed(1)} % of a core meanwhile`);
    holding.assertNoneLost();
    assert.equal(await holding.release(), names.length);
  });

  test('a process that holds nothing ends by itself while a node hangs', async (t) => {
    const [[hung], [name]] = namesOfShards(1, (number) => `exit ${number}`);
    const code = `
      const R = require('./index.js');
      const r = new R('w', null, null, 0, 2, false, '', { cluster: ${JSON.stringify(cluster.addresses)} });
      (async () => {
        await r.lock(${JSON.stringify(name)});
        await r.release();
        await r.lock(${JSON.stringify(hung)}).catch(({ code }) => console.log(code));
      })();`;
    cluster.nodes[0].pause();
    const child = startChild(t, { code });
    assert.deepEqual(await child.exit(), { code: 0, signal: null });
    assert.match(child.stdout, /ERR_REDIS_(CONNECTION|TIMEOUT)/);
  });
});

test('two nodes hang at once', async (t) => {
  // The timeout is so long that the third node does not mark them as failed: without a majority it would serve nothing.
  const cluster = await startCluster(t, { ...withoutReplicas, nodeTimeout: 30000 });
  await endure(t, cluster, stopping(cluster, [0, 2]));
});

test('a node that neither accepts nor refuses connections (a black hole)', async (t) => {
  const cluster = await startCluster(t, withoutReplicas);
  const holes = await Promise.all(cluster.nodes.map((node) => startBlackHole(t, node.port)));
  await Promise.all(
    cluster.nodes.map((node, place) =>
      node.command('CONFIG', 'SET', 'cluster-announce-port', holes[place].port),
    ),
  );
  const isAnnounced = async (node) => {
    const text = JSON.stringify(await node.command('CLUSTER', 'SLOTS'));
    return holes.every(({ port }) => text.includes(String(port)));
  };
  await until(async () => (await Promise.all(cluster.nodes.map(isAnnounced))).every(Boolean), {
    ...patient,
    what: 'the announcement of the ports',
  });
  await endure(t, cluster, { bad: [1], fail: () => holes[1].vanish(), mend: () => holes[1].appear() });
});

test('a node that hangs, over TLS', { skip: withoutTls() }, async (t) => {
  const cluster = await startCluster(t, { ...withoutReplicas, tls: {} });
  const options = { tls: { ca: certificates().ca.cert } };
  await endure(t, cluster, { ...stopping(cluster, [0]), options });
});
