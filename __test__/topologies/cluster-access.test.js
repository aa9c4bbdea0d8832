// Access to a cluster before and after a failover: a user with the necessary rules only, TLS, and replicas that must have the
// key (min_replicas).
'use strict';

const assert = require('node:assert/strict');
const { after, afterEach, before, suite, test } = require('node:test');
const { keepLosses } = require('../support/reservation');
const { until, within } = require('../support/wait');
const { addUser, changeUser } = require('./support/acl');
const { certificates } = require('./support/certificates');
const { startCluster } = require('./support/cluster');
const { withoutTls } = require('./support/node');
const {
  countOf,
  keyOf,
  namesOfShards,
  onCluster,
  patient,
  startWorker,
  tried,
  untilCopied,
  valueOf,
} = require('./support/shards');

const outcome = (promise) => promise.catch((error) => error);

// The rules for any redis, and the additional ones for a cluster.
const ofLocks = [
  '~reservation-*',
  '+set',
  '+get',
  '+getex',
  '+pttl',
  '+del',
  '+pexpire',
  '+eval',
  '+evalsha',
];
const ofCluster = ['+cluster|slots', '+asking'];

/** Locks, waits, renewals and releases on every shard, before and after the loss of a master. */
async function useEverything(t, cluster, settings) {
  const names = namesOfShards(4, (number) => `used ${number}`).flat();
  const reservation = onCluster(t, cluster, { ...settings, interval: 300, ttl: 9 });
  const losses = keepLosses(reservation);
  for (const name of names) assert.equal(await reservation.lock(name), true);
  const other = startWorker(t, cluster, settings.worker);
  const waitInAnother = async (name) => {
    const soFar = await countOf(cluster, 'set');
    const waiting = other.call(name, 'wait_until_lock', name);
    waiting.catch(() => {});
    await tried(cluster, soFar);
    assert.equal(await reservation.release(name), 1);
    assert.equal(await waiting, keyOf(name));
    assert.equal(await other.call(name, 'release'), 1);
  };
  await waitInAnother(names[0]);
  await untilCopied(cluster);
  const slot = cluster.slotOf(keyOf(names[1]));
  const first = await cluster.killMasterOf(slot);
  const start = performance.now();
  await cluster.waitForPromotion(slot, first);
  t.diagnostic(`a new master after ${(performance.now() - start).toFixed(0)} ms`);
  const renewed = async () => {
    await reservation.ensure_reservation();
    return true;
  };
  await until(renewed, { ...patient, what: 'a renewal of all' });
  t.diagnostic(`all renewed ${(performance.now() - start).toFixed(0)} ms after the end of the old one`);
  assert.deepEqual(losses, []);
  await waitInAnother(names[1]);
  assert.equal(await reservation.release(), names.length - 2);
  for (const name of names) assert.equal(await valueOf(cluster, name), null);
}

suite('min_replicas and users', () => {
  let cluster;

  before(async () => {
    cluster = await startCluster(null);
  });
  afterEach(async () => {
    for (const node of cluster.nodes) {
      if (node.paused) node.resume();
      else if (!node.awake) await node.start();
    }
    await cluster.waitUntilHealthy();
  });
  after(() => cluster.stop());

  test('min_replicas: 1 succeeds on every shard, for locks and for waiters', async (t) => {
    const names = namesOfShards(10, (number) => `copied ${number}`).flat();
    const reservation = onCluster(t, cluster, { options: { min_replicas: 1 } });
    const asked = await countOf(cluster, 'wait');
    assert.ok((await Promise.all(names.map((name) => reservation.lock(name)))).every((had) => had === true));
    assert.equal((await countOf(cluster, 'wait')) - asked, names.length, 'each is asked for');
    for (const [name] of namesOfShards(1, (number) => `copied ${number}`)) {
      const [replica] = await cluster.replicasOf(await cluster.nodeOf(keyOf(name)));
      assert.equal(
        await replica.command('EXISTS', keyOf(name)).catch(({ message }) => /^MOVED/.test(message)),
        true,
      );
      assert.ok(
        (await replica.command('CLUSTER', 'GETKEYSINSLOT', cluster.slotOf(keyOf(name)), 9)).length > 0,
      );
    }
    assert.equal(await reservation.release(), names.length);
    assert.equal(await reservation.wait_until_lock(names[0], { signal: t.signal }), keyOf(names[0]));
    assert.equal(await reservation.release(), 1);
  });

  test('min_replicas: 1, and the only replica of a shard hangs: locks of that shard are given back, others succeed', async (t) => {
    const [here, ...elsewhere] = namesOfShards(5, (number) => `alone ${number}`);
    const options = { min_replicas: 1, command_timeout: 2000 };
    const reservation = onCluster(t, cluster, { options, interval: 300, ttl: 6 });
    const losses = keepLosses(reservation);
    for (const list of [here, ...elsewhere]) assert.equal(await reservation.lock(list[0]), true);
    const [replica] = await cluster.replicasOf(await cluster.nodeOf(keyOf(here[0])));
    replica.pause();
    const start = performance.now();
    const refused = outcome(reservation.lock(here[1]));
    for (const list of elsewhere) assert.equal(await reservation.lock(list[1]), true, 'others go on');
    const error = await refused;
    t.diagnostic(`refused after ${(performance.now() - start).toFixed(0)} ms: ${error.message}`);
    assert.equal(error.code, 'ERR_TOO_FEW_REPLICAS');
    assert.ok(error.message.includes(`${keyOf(here[1])} reached 0 of the 1 replicas`), error.message);
    assert.equal(reservation.is_held(here[1]), false);
    await until(async () => (await valueOf(cluster, here[1])) === null, {
      ...patient,
      what: 'it given back',
    });
    assert.deepEqual([reservation.is_held(here[0]), losses], [true, []], 'the earlier lock is kept');
    assert.equal(await reservation.release(here[0]), 1);
    const waiting = reservation.wait_until_lock(here[2], { signal: t.signal });
    waiting.catch(() => {});
    replica.resume();
    assert.equal(await within(20000, waiting), keyOf(here[2]), 'a waiter has it once the replica is back');
    assert.equal(await reservation.release(), 5);
  });

  test('a user with the necessary rules can use locks through a failover', async (t) => {
    const user = await addUser(cluster.nodes, { username: 'least', rules: [...ofLocks, ...ofCluster] });
    const settings = { password: user.password, options: { username: user.username } };
    await useEverything(t, cluster, { ...settings, worker: settings });
  });

  test('with the rules for tracking and for the client name, waiters wake without a poll', async (t) => {
    const rules = [
      ...ofLocks,
      ...ofCluster,
      '+client|tracking',
      '+client|caching',
      '+client|setname',
      '+client|info',
    ];
    const user = await addUser(cluster.nodes, { username: 'told', rules });
    const settings = { password: user.password, options: { username: user.username } };
    const [, [name]] = namesOfShards(1, (number) => `told ${number}`);
    await cluster.command(keyOf(name), 'SET', keyOf(name), 'somebody', 'EX', 600);
    const reservation = onCluster(t, cluster, settings);
    const soFar = await countOf(cluster, 'set');
    const waiting = reservation.wait_until_lock(name, { signal: t.signal });
    await tried(cluster, soFar);
    const freed = performance.now();
    await cluster.command(keyOf(name), 'DEL', keyOf(name));
    await within(5000, waiting);
    assert.ok(performance.now() - freed < 800, 'woken, not by its poll');
    assert.equal(await reservation.release(), 1);
  });

  test('the error names a missing rule, of the cluster and of a command', async (t) => {
    const { username, password } = await addUser(cluster.nodes, { username: 'wanting', rules: ofLocks });
    const make = (client_name) => onCluster(t, cluster, { password, options: { username, client_name } });
    const [name] = namesOfShards(1).flat();
    const start = performance.now();
    const error = await outcome(make('first').lock(name));
    assert.equal(error.code, 'ERR_REDIS_AUTH', error.message);
    assert.match(error.message, /NOPERM.*ACL SETUSER wanting \+cluster/);
    assert.ok(performance.now() - start < 2500, 'at once');
    await changeUser(cluster.nodes, username, ...ofCluster, '-set');
    const refused = await outcome(make('second').lock(name));
    assert.equal(refused.code, 'ERR_REDIS_AUTH', refused.message);
    assert.match(refused.message, /NOPERM.*ACL SETUSER wanting \+set$/);
    await changeUser(cluster.nodes, username, '+set', 'resetkeys', '~other-*');
    const keys = await outcome(make('third').lock(name));
    assert.equal(keys.code, 'ERR_REDIS_AUTH', keys.message);
    assert.match(keys.message, /~reservation-\*/);
  });

  for (const rule of ofCluster) {
    test(`${rule} is needed`, async (t) => {
      const others = ofCluster.filter((one) => one !== rule);
      const user = await addUser(cluster.nodes, {
        username: `no${rule.replace(/\W/g, '')}`,
        rules: [...ofLocks, ...others],
      });
      const { username, password } = user;
      const reservation = onCluster(t, cluster, { password, options: { username, command_timeout: 1000 } });
      const name = `needs ${rule}`;
      const slot = cluster.slotOf(keyOf(name));
      const lock = outcome(reservation.lock(name));
      if (rule !== '+asking' && (await lock) !== true) return;
      assert.equal(await lock, true);
      await reservation.release();
      const move = await cluster.beginMove(slot, await cluster.otherMaster(slot));
      const under = await outcome(reservation.lock(name));
      await cluster.finishMove(move);
      assert.equal(under.code, 'ERR_REDIS_AUTH', `${under.message || under}`);
    });
  }
});

test(
  'over TLS, with certificates on both sides: locks, waits and a failover',
  { skip: withoutTls() },
  async (t) => {
    const cluster = await startCluster(t, { tls: { clients: 'yes' } });
    const { ca, client } = certificates();
    const options = { tls: { ca: ca.cert, cert: client.cert, key: client.key } };
    await useEverything(t, cluster, { options, worker: { options } });
    const stranger = onCluster(t, cluster, { options: { tls: { cert: client.cert, key: client.key } } });
    const error = await outcome(stranger.lock('job'));
    assert.equal(error.code, 'ERR_REDIS_CONNECTION');
    assert.match(error.message, /certificate|issuer/i);
    const plain = await outcome(onCluster(t, cluster).lock('job'));
    assert.equal(plain.code, 'ERR_REDIS_CONNECTION');
    assert.match(plain.message, /does it want TLS/);
  },
);
