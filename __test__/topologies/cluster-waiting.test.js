// Waiting on a cluster: the node that serves the key wakes the waiter, a waiter polls where a node refuses tracking, and waiters
// are served in order.
'use strict';

const assert = require('node:assert/strict');
const { after, before, suite, test } = require('node:test');
const { keepLog } = require('../support/reservation');
const { until, within } = require('../support/wait');
const { addUser } = require('./support/acl');
const { startCluster } = require('./support/cluster');
const {
  clientsNamed,
  countOf,
  keyOf,
  namesOfShards,
  onCluster,
  patient,
  startWorker,
  tried,
  valueOf,
  wait,
} = require('./support/shards');

const median = (values) => [...values].sort((one, other) => one - other)[Math.floor(values.length / 2)];
const show = (values) => `[${values.map((value) => value.toFixed(1)).join(', ')}] ms`;

// The commands of a waiter.
const looks = ['set', 'get', 'pttl', 'client|caching'];

suite('waiting on a cluster', () => {
  let cluster;

  before(async () => {
    cluster = await startCluster(null);
  });
  after(() => cluster.stop());

  const occupy = (name, ...expiry) => cluster.command(keyOf(name), 'SET', keyOf(name), 'somebody', ...expiry);
  const free = (name) => cluster.command(keyOf(name), 'DEL', keyOf(name));

  /** Starts a wait and resolves after its first failed try. Its poll is 0.9 s later at the earliest. */
  async function startWaiting(t, reservation, name) {
    const earlier = await countOf(cluster, 'set');
    const waiting = wait(t, reservation, name);
    await tried(cluster, earlier);
    return { had: waiting.then(() => performance.now()) };
  }

  test('on every shard a release in another process wakes the waiter long before its poll', async (t) => {
    const other = startWorker(t, cluster);
    const reservation = onCluster(t, cluster);
    const names = namesOfShards(1, (number) => `wake ${number}`).flat();
    for (const name of names) {
      const times = [];
      for (let round = 0; round < 5; round += 1) {
        assert.equal(await other.call('holder', 'lock', name), true);
        const { had } = await startWaiting(t, reservation, name);
        const freed = performance.now();
        await other.call('holder', 'release');
        times.push((await within(5000, had)) - freed);
        assert.equal(reservation._reserve_val, await valueOf(cluster, name));
        assert.equal(await reservation.release(), 1);
      }
      t.diagnostic(show(times));
      assert.ok(median(times) < 450, show(times));
    }
  });

  test('on every shard a DEL by any client, and the end of a ttl, wake the waiter', async (t) => {
    const reservation = onCluster(t, cluster);
    const names = namesOfShards(1, (number) => `foreign ${number}`).flat();
    for (const name of names) {
      const times = [];
      for (let round = 0; round < 3; round += 1) {
        await occupy(name, 'EX', 600);
        const { had } = await startWaiting(t, reservation, name);
        const freed = performance.now();
        await free(name);
        times.push((await within(5000, had)) - freed);
        await reservation.release();
      }
      assert.ok(median(times) < 450, show(times));
      await occupy(name, 'PX', 400);
      const start = performance.now();
      await within(5000, wait(t, reservation, name));
      const took = performance.now() - start;
      assert.ok(took > 350 && took < 850, `expired: ${took} ms`);
      await reservation.release();
    }
  });

  test('30 waiters on all shards send few commands in two seconds', async (t) => {
    const names = namesOfShards(10, (number) => `quiet ${number}`).flat();
    await Promise.all(names.map((name) => occupy(name, 'EX', 600)));
    const earlier = await countOf(cluster, 'set');
    const reservation = onCluster(t, cluster);
    const waits = names.map((name) => wait(t, reservation, name));
    await tried(cluster, earlier, names.length);
    const soFar = await countOf(cluster, ...looks);
    const start = performance.now();
    await until(() => performance.now() - start > 2000, { what: 'two seconds' });
    const asked = (await countOf(cluster, ...looks)) - soFar;
    t.diagnostic(`${asked} commands of 30 waiters in 2 s`);
    // A poll each second, of at most four commands.
    assert.ok(asked <= names.length * 4 * 3, `${asked} commands`);
    await Promise.all(names.map(free));
    await within(5000, Promise.all(waits));
    assert.equal(await reservation.release(), names.length);
  });

  test('the tracking link to a node is killed: waiters look again', async (t) => {
    const options = { client_name: 'cut-off' };
    const reservation = onCluster(t, cluster, { options });
    const [, [name]] = namesOfShards(1, (number) => `cut ${number}`);
    const node = await cluster.nodeOf(keyOf(name));
    const times = [];
    for (let round = 0; round < 3; round += 1) {
      await occupy(name, 'EX', 600);
      const { had } = await startWaiting(t, reservation, name);
      const earlier = await countOf(cluster, 'set');
      const [client] = await clientsNamed(node, 'cut-off');
      const cut = performance.now();
      await node.command('CLIENT', 'KILL', 'ID', client.id);
      await tried(cluster, earlier);
      times.push(performance.now() - cut);
      const freed = performance.now();
      await free(name);
      assert.ok((await within(5000, had)) - freed < 800, 'it gets invalidations again');
      await reservation.release();
    }
    assert.ok(median(times) < 500, `looked again, before its poll: ${show(times)}`);
  });

  test('FLUSHALL on one node wakes the waiters of its shard', async (t) => {
    const reservation = onCluster(t, cluster);
    const names = namesOfShards(3, (number) => `flush ${number}`);
    await Promise.all(names.flat().map((name) => occupy(name, 'EX', 600)));
    const earlier = await countOf(cluster, 'set');
    const waits = names.map((list) => list.map((name) => wait(t, reservation, name)));
    await tried(cluster, earlier, 9);
    const node = await cluster.nodeOf(keyOf(names[1][0]));
    const start = performance.now();
    await node.command('FLUSHALL');
    await within(5000, Promise.all(waits[1]));
    assert.ok(performance.now() - start < 800);
    assert.deepEqual(
      names.flat().map((name) => reservation.is_held(name)),
      [0, 1, 2].flatMap((shard) => [1, 2, 3].map(() => shard === 1)),
    );
    await Promise.all([...names[0], ...names[2]].map(free));
    await within(5000, Promise.all(waits.flat()));
    assert.equal(await reservation.release(), 9);
  });

  test('on every shard at the same time, the waiters of one process are served in order', async (t) => {
    const names = namesOfShards(1, (number) => `queue ${number}`).flat();
    const holder = onCluster(t, cluster);
    const served = new Map(names.map((name) => [name, []]));
    for (const name of names) await holder.lock(name);
    const waits = names.flatMap((name) =>
      Array.from({ length: 15 }, async (_, place) => {
        const reservation = onCluster(t, cluster);
        await wait(t, reservation, name);
        served.get(name).push(place);
        await reservation.release();
      }),
    );
    await holder.release();
    await within(10000, Promise.all(waits));
    const inTurn = Array.from({ length: 15 }, (_, place) => place);
    for (const name of names) {
      assert.deepEqual(served.get(name), inTurn);
      assert.equal(await valueOf(cluster, name), null);
    }
  });

  test('a wait that times out, and one that is aborted, leave nothing behind', async (t) => {
    const [, , [name]] = namesOfShards(1, (number) => `limit ${number}`);
    await occupy(name, 'EX', 600);
    const reservation = onCluster(t, cluster);
    await assert.rejects(reservation.wait_until_lock(name, { timeout: 200 }), {
      code: 'ERR_RESERVATION_TIMEOUT',
    });
    const controller = new AbortController();
    const waiting = wait(t, reservation, name, { signal: controller.signal });
    controller.abort(new Error('enough'));
    await assert.rejects(waiting, /enough/);
    await free(name);
    assert.equal(await onCluster(t, cluster).lock(name), true, 'no other instance acquired it');
    await free(name);
  });

  const refusals = {
    'CLIENT TRACKING is forbidden to this user': async () => {
      // Redis 6.2 can allow a single subcommand, but not forbid it.
      const others = ['info', 'kill', 'caching', 'setname'].map((name) => `+client|${name}`);
      const rules = ['~*', '&*', '+@all', '-client', ...others];
      const user = await addUser(cluster.nodes, { username: 'untold', rules });
      return { password: user.password, options: { username: user.username } };
    },
    'RESP2 is spoken': async () => ({ options: { protocol: 2 } }),
  };

  for (const [title, settingsOf] of Object.entries(refusals)) {
    test(`${title}: waiters poll on every shard, and one line says so`, async (t) => {
      const settings = await settingsOf();
      const names = namesOfShards(1, (number) => `poll ${number}`).flat();
      await Promise.all(names.map((name) => occupy(name, 'EX', 600)));
      const log = keepLog();
      const reservation = onCluster(t, cluster, { ...settings, log });
      const earlier = await countOf(cluster, 'set');
      const start = performance.now();
      const waits = names.map((name) => wait(t, reservation, name));
      await tried(cluster, earlier, 12);
      const passed = performance.now() - start;
      // The first tries, on new connections and before the refusal is known, come at once. All others are polls.
      assert.ok(passed > 850 && passed < 6000, `12 tries in ${passed} ms`);
      await Promise.all(names.map(free));
      await within(5000, Promise.all(waits));
      assert.equal(await reservation.release(), 3);
      const lines = log.of('waiting-by-polling');
      assert.equal(lines.length, 1, JSON.stringify(lines));
      assert.match(lines[0].endpoint, /^cluster 127\.0\.0\.1:/);
      assert.match(lines[0].reason, /\w+ \w+/);
      t.diagnostic(lines[0].reason);
    });
  }

  test('where waiters poll, they still wake at the end of a ttl, and within a process without a poll', async (t) => {
    const options = { protocol: 2 };
    const [[name]] = namesOfShards(1, (number) => `polled ${number}`);
    const [one, other] = [onCluster(t, cluster, { options }), onCluster(t, cluster, { options })];
    await occupy(name, 'PX', 500);
    await within(5000, wait(t, one, name));
    const { had } = await startWaiting(t, other, name);
    const freed = performance.now();
    await one.release();
    assert.ok((await within(5000, had)) - freed < 800);
    assert.equal(await other.release(), 1);
  });

  test('thousands of waiters for a shard that refuses everything do not delay those of other shards', async (t) => {
    const count = 20000;
    const [many] = namesOfShards(count, (number) => `refused ${number}`);
    const [, [name]] = namesOfShards(1, (number) => `elsewhere ${number}`);
    const nodes = await Promise.all([many[0], name].map((one) => cluster.nodeOf(keyOf(one))));
    const ask = (replicas) => (node) => node.command('CONFIG', 'SET', 'min-replicas-to-write', replicas);
    t.after(() => Promise.all(nodes.map(ask(0))));
    const refused = (node, least) => {
      const look = async () => {
        const found = /errorstat_NOREPLICAS:count=(\d+)/.exec(await node.command('INFO', 'errorstats'));
        return found !== null && Number(found[1]) >= least;
      };
      return until(look, { ...patient, what: `${least} refusals` });
    };
    const reservation = onCluster(t, cluster);
    await reservation.lock(name);
    await reservation.release();
    await ask(9)(nodes[0]);
    for (const one of many) wait(t, reservation, one);
    await refused(nodes[0], count);
    // By then their refusals are known.
    await new Promise((resolve) => setTimeout(resolve, 6000));
    await ask(9)(nodes[1]);
    const waiting = wait(t, reservation, name);
    await refused(nodes[1], 1);
    await ask(0)(nodes[1]);
    // In turn with all of them, it would take about twenty seconds.
    await within(2000, waiting, 'the lock of the other shard');
    assert.equal(await reservation.release(), 1);
  });

  test('many processes: each acquires each resource once, on every shard', async (t) => {
    const names = namesOfShards(1, (number) => `crowd ${number}`).flat();
    const workers = Array.from({ length: 3 }, () => startWorker(t, cluster));
    const counters = names.map(() => ({ inside: 0, turns: 0 }));
    const take = async (worker, name, place) => {
      for (let round = 0; round < 10; round += 1) {
        assert.equal(await worker.call(name, 'wait_until_lock', name), keyOf(name));
        counters[place].inside += 1;
        await new Promise(setImmediate); // lets other processes overlap
        assert.equal(counters[place].inside, 1, 'alone');
        counters[place].turns += 1;
        counters[place].inside -= 1;
        assert.equal(await worker.call(name, 'release'), 1);
      }
    };
    const turns = workers.map((worker) => names.map((name, place) => take(worker, name, place)));
    await within(patient.timeout, Promise.all(turns.flat()));
    assert.deepEqual(
      counters.map((counter) => counter.turns),
      [30, 30, 30],
    );
  });
});
