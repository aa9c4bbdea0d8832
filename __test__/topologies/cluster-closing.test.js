// A node of a cluster that accepts each connection and closes it at the first command or earlier: it gets a few connections a
// second, other shards are not affected, and it is used again as soon as it serves. One that closes once is used at once.
'use strict';

const assert = require('node:assert/strict');
const { after, before, suite, test } = require('node:test');
const { setTimeout: sleep } = require('node:timers/promises');
const { until } = require('../support/wait');
const { certificates, hasOpenssl } = require('./support/certificates');
const { startClosing } = require('./support/closing');
const { startCluster } = require('./support/cluster');
const { majorOf } = require('./support/looks');
const { namesOfShards, onCluster, patient } = require('./support/shards');
const { useSteadily } = require('./support/steady');
const { hold } = require('./support/workload');

const closesFor = 4000;

/** Pauses are at most a quarter of a second, and jitter halves them at most; a dozen more at the beginning. */
const mostConnects = (ms) => 8 * (ms / 1000) + 12;

suite('a node that closes each connection', () => {
  let cluster;
  let isOld;

  before(async () => {
    const config = { 'cluster-require-full-coverage': 'no' };
    cluster = await startCluster(null, { replicas: 0, nodeTimeout: 3000, config });
    isOld = (await majorOf(cluster.nodes[0])) < 7;
  });
  after(() => cluster.stop());

  /** Proxies to the first node, or over TLS to all of them, to which the nodes send clients. Null on redis 6.2. */
  async function ways(t, { secure } = {}) {
    if (isOld) {
      t.skip('a node of redis 6.2 that runs does not take another port to be known by');
      return null;
    }
    const nodes = secure ? cluster.nodes : cluster.nodes.slice(0, 1);
    const all = await Promise.all(nodes.map(({ port }) => startClosing(t, port, { secure })));
    const announce = async (ports) => {
      const wanted = cluster.nodes.map(({ port }, place) => ports[place] || port);
      await Promise.all(
        cluster.nodes.map((node, place) =>
          node.command('CONFIG', 'SET', 'cluster-announce-port', wanted[place]),
        ),
      );
      const isKnown = async (node) => {
        const slots = await node.command('CLUSTER', 'SLOTS');
        return slots.every(([, , [, port]]) => wanted.includes(port));
      };
      const areKnown = async () => (await Promise.all(cluster.nodes.map(isKnown))).every(Boolean);
      await until(areKnown, { ...patient, what: 'the ports that all nodes tell' });
    };
    await announce(all.map(({ port }) => port));
    t.after(() => announce([]));
    const tls = secure && { ca: certificates().ca.cert };
    const others = secure ? [] : cluster.addresses.slice(1);
    const options = {
      cluster: [...all.map(({ port }) => ({ host: '127.0.0.1', port })), ...others],
      client_name: t.name.replaceAll(/\W/g, '-'), // so that it has a separate connection
      ...(tls ? { tls } : {}),
    };
    return { way: all[0], options };
  }

  async function endure(t, { secure, ...rule }) {
    const there = await ways(t, { secure });
    if (!there) return;
    const { way, options } = there;
    // So many that together they would connect all the time, although each pauses between its tries.
    const [names, ...others] = namesOfShards(50, (number) => `${t.name} ${number}`);
    const healthy = namesOfShards(20, (number) => `${t.name} held ${number}`)
      .slice(1)
      .flat();
    const here = await hold(() => onCluster(t, cluster, { ttl: 2, options }), 40, { resources: healthy });
    const user = useSteadily(
      t,
      cluster,
      others.flatMap((some) => some.slice(0, 2)),
      { options },
    );
    const victim = useSteadily(t, cluster, names, { options: { ...options, command_timeout: 1000 } });
    await until(() => user.seen.count > 20 && victim.seen.count > 100, patient);
    assert.deepEqual(victim.seen.errors, []);

    const earlier = way.accepted;
    const start = performance.now();
    way.close(rule);
    await sleep(closesFor);
    const connects = way.accepted - earlier;
    const took = performance.now() - start;
    way.heal();
    const healed = performance.now();
    const again = onCluster(t, cluster, { options });
    await until(() => again.lock(`${names[0]} again`).catch(() => false), patient);
    const back = performance.now() - healed;
    await victim.stop();
    const { longest, errors } = await user.stop();
    t.diagnostic(
      `${connects} connections in ${(took / 1000).toFixed(1)} s; back after ${back.toFixed(0)} ms`,
    );
    t.diagnostic(`a lock and a release on another shard took ${longest.toFixed(0)} ms at most`);
    t.diagnostic(`meanwhile there: ${[...new Set(victim.seen.errors)].slice(0, 4).join(' | ')}`);
    assert.ok(connects < mostConnects(took), `${connects} connections in ${took} ms`);
    assert.ok(connects >= 4, 'it is tried');
    assert.ok(back < 1000, `back after ${back} ms`);
    here.assertNoneLost();
    assert.deepEqual(errors, []);
    assert.ok(longest < 1000, `${longest} ms on a shard that was well`);
    assert.equal(await again.release(), 1);
    assert.equal(await here.release(), 40);
  }

  test('at the first command', (t) => endure(t, { when: 'command' }));

  test('at the first command, by a reset', (t) => endure(t, { when: 'command', how: 'reset' }));

  test('at the first command, after bytes that are no answer', (t) =>
    endure(t, { when: 'command', how: 'garbage' }));

  test('after the greeting', (t) => endure(t, { when: 'greeted' }));

  test('in the middle of the greeting', (t) => endure(t, { when: 'answer' }));

  test('at the first command, over TLS', { skip: !hasOpenssl() }, (t) =>
    endure(t, { when: 'command', secure: true }),
  );

  test('a node that closes once, as by CLIENT KILL, is used again at once', async (t) => {
    const there = await ways(t);
    if (!there) return;
    const { way, options } = there;
    const reservation = onCluster(t, cluster, { options });
    const [[name]] = namesOfShards(1, (number) => `once ${number}`);
    const use = async () => {
      assert.equal(await reservation.lock(name), true);
      assert.equal(await reservation.release(), 1);
    };
    await use();
    // After a connection that has lasted, the failures before it no longer count.
    way.close();
    const earlier = way.accepted;
    await until(() => reservation.lock(name).catch(() => way.accepted > earlier + 6), patient);
    way.heal();
    await until(() => reservation.lock(name).catch(() => false), patient);
    assert.equal(await reservation.release(), 1);
    const seen = [];
    while (!seen.some((ms) => ms < 60) && seen.length < 5) {
      await sleep(1200); // long enough for a connection to count as good
      await use();
      const soFar = way.accepted;
      way.cut();
      const start = performance.now();
      await use();
      seen.push(performance.now() - start);
      assert.equal(way.accepted, soFar + 1);
    }
    t.diagnostic(`used again after ${seen.map((ms) => ms.toFixed(1))} ms`);
    assert.ok(Math.min(...seen) < 60, `${seen} ms`);
  });
});
