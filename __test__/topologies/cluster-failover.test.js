// Masters of a cluster that are killed, hang or are replaced on purpose, while their locks are held, waited for and tried:
// held locks stay held or are reported lost once, waiters acquire theirs, and no key stays that nobody holds.
'use strict';

const assert = require('node:assert/strict');
const { after, afterEach, before, suite, test } = require('node:test');
const { setOf } = require('../support/faults');
const { startProxy } = require('../support/proxy');
const { keepLosses } = require('../support/reservation');
const { until, within } = require('../support/wait');
const { startCluster } = require('./support/cluster');
const { majorOf } = require('./support/looks');
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
const { contend, hold, watchExclusion } = require('./support/workload');

const since = (start) => `${(performance.now() - start).toFixed(0)} ms`;

suite('failover', () => {
  let cluster;

  before(async () => {
    cluster = await startCluster(null);
  });

  // Also after a failed test.
  afterEach(async () => {
    for (const node of cluster.nodes) {
      if (node.paused) node.resume();
      else if (!node.awake) await node.start();
    }
    await cluster.waitUntilHealthy();
  });
  after(() => cluster.stop());

  /** The values on the current masters, of keys that must be there. */
  const valuesOf = (names) => Promise.all(names.map((name) => valueOf(cluster, name)));

  /** Each holder has its value on the current master, or has got its loss once. */
  async function assertTold(holding) {
    const { holders } = holding;
    assert.equal(holding.isTold, true, 'one report each, and only of losses');
    const values = await valuesOf(holders.map(({ resource }) => resource));
    for (const [place, { resource, reservation }] of holders.entries()) {
      if (reservation.is_held(resource)) assert.equal(values[place], reservation._reserve_val, resource);
      else assert.notEqual(values[place], reservation._reserve_val, `${resource} was reported as lost`);
    }
  }

  /** Resolves once every holder was renewed on the current masters: by then each loss is reported. */
  async function renewAll(holding) {
    const renewed = holding.held.map(async ({ reservation, losses }) => {
      const error = await reservation.ensure_reservation().catch((failure) => failure);
      if (error && error.code === 'ERR_RESERVATION_LOST') losses.push({ at: performance.now(), error });
    });
    await within(patient.timeout, Promise.all(renewed));
  }

  test('SIGKILL of a master under 100 locks, with waiters for 50 of them in another process', async (t) => {
    const names = namesOfShards(34, (number) => `killed ${number}`).flat();
    const exclusion = watchExclusion(t);
    const settings = { interval: 400, ttl: 8 };
    const holding = await hold(() => onCluster(t, cluster, settings), names.length, {
      resources: names,
      exclusion,
    });
    const other = startWorker(t, cluster, { ttl: 30 });
    const awaited = names.filter((_, place) => place % 2 === 0);
    const soFar = await countOf(cluster, 'set');
    const had = new Map();
    const waits = awaited.map(async (name) => {
      await other.call(name, 'wait_until_lock', name);
      had.set(name, performance.now());
      // Another process has just acquired it: no instance here may still count it as held.
      const { reservation } = holding.holders[names.indexOf(name)];
      assert.equal(reservation.is_held(name), false, `${name} has two holders`);
    });
    for (const one of waits) one.catch(() => {});
    await tried(cluster, soFar, awaited.length);

    await untilCopied(cluster);
    const slot = cluster.slotOf(keyOf(names[0]));
    const first = await cluster.killMasterOf(slot);
    const start = performance.now();
    await cluster.waitForPromotion(slot, first);
    const promoted = performance.now();
    t.diagnostic(`a new master after ${since(start)}`);
    await renewAll(holding);
    t.diagnostic(`all renewed there ${since(promoted)} after it`);
    assert.ok(performance.now() - promoted < 2000, since(promoted));
    holding.assertNoneLost(); // the replica had all of them
    await assertTold(holding);
    exclusion.assertNever();

    const freed = performance.now();
    const held = holding.held.length;
    assert.equal(await holding.release(), held);
    await within(patient.timeout, Promise.all(waits));
    t.diagnostic(`all waiters have theirs ${since(freed)} after the release`);
    assert.ok(performance.now() - freed < 2500, 'by their polls at the latest');
    assert.equal(had.size, awaited.length);
    for (const name of awaited) assert.equal(await other.call(name, 'release'), 1);
    assert.deepEqual(other.losses, []);
    assert.ok(
      (await valuesOf(names)).every((value) => value === null),
      'nothing is left behind',
    );
  });

  test('SIGSTOP of a master, another takes over, SIGCONT: one holder at each instant, nothing lost', async (t) => {
    const names = namesOfShards(8, (number) => `stopped ${number}`);
    const exclusion = watchExclusion(t);
    const settings = { interval: 300, ttl: 9 };
    const held = names.flatMap((list) => list.slice(0, 6));
    const holding = await hold(() => onCluster(t, cluster, settings), held.length, {
      resources: held,
      exclusion,
    });
    const fought = names.map((list) => list[7]);
    const contests = fought.map((name) =>
      contend(t, () => onCluster(t, cluster, settings), name, { exclusion }),
    );
    await until(() => contests.every(({ turns }) => turns > 3), { what: 'turns' });

    await untilCopied(cluster);
    const slot = cluster.slotOf(keyOf(held[0]));
    const start = performance.now();
    const hung = await cluster.pauseMasterOf(slot);
    await cluster.waitForPromotion(slot, hung);
    const promoted = performance.now();
    t.diagnostic(`a new master after ${since(start)}`);
    await renewAll(holding);
    t.diagnostic(`all renewed there ${since(promoted)} after it`);
    holding.assertNoneLost();
    const turns = contests.map((contest) => contest.turns);
    await until(() => contests.every((contest, place) => contest.turns >= turns[place] + 3), {
      ...patient,
      what: 'turns with the new master',
    });
    t.diagnostic(`turns on every shard ${since(promoted)} after it`);

    hung.resume(); // still acts as the master, until the others correct it
    await cluster.waitUntilHealthy();
    const later = contests.map((contest) => contest.turns);
    await until(() => contests.every((contest, place) => contest.turns >= later[place] + 3), {
      ...patient,
      what: 'turns with the old one back',
    });
    await renewAll(holding);
    holding.assertNoneLost();
    await assertTold(holding);
    const ended = await within(patient.timeout, Promise.all(contests.map((contest) => contest.stop())));
    const errors = ended.flatMap((contest) => contest.errors.map(({ code }) => code));
    // A release that reached no master may fail. Then the key lapsed, which is no loss.
    t.diagnostic(`errors: ${errors}`);
    for (const code of errors) assert.match(code, /^ERR_(REDIS_\w+|RESERVATION_LOST)$/);
    exclusion.assertNever();
    assert.equal(await holding.release(), held.length);
    await until(async () => (await valuesOf(names.flat())).every((value) => value === null), {
      ...patient,
      what: 'an end of all keys, by their ttl at the latest',
    });
  });

  test('planned failovers of every shard, one after another, under leases of 3 s: nothing is lost', async (t) => {
    const names = namesOfShards(10, (number) => `planned ${number}`);
    const exclusion = watchExclusion(t);
    const settings = { interval: 300, ttl: 3 };
    const holding = await hold(() => onCluster(t, cluster, settings), 30, {
      resources: names.flat(),
      exclusion,
    });
    const contest = contend(t, () => onCluster(t, cluster, settings), `${names[0][0]} prize`, { exclusion });
    for (const [name] of names) {
      const { turns } = contest;
      const start = performance.now();
      await cluster.failover(cluster.slotOf(keyOf(name)));
      await renewAll(holding);
      t.diagnostic(`failed over, and all renewed, after ${since(start)}`);
      await until(() => contest.turns >= turns + 3, { ...patient, what: 'turns after it' });
    }
    holding.assertNoneLost();
    await assertTold(holding);
    assert.deepEqual((await contest.stop()).errors, []);
    exclusion.assertNever();
    assert.equal(await holding.release(), 30);
  });

  test('a SET that has run and whose reply is lost: the lock answers true', async (t) => {
    const [names] = namesOfShards(20, (number) => `unanswered ${number}`);
    const reservation = onCluster(t, cluster, { options: { client_name: 'unanswered' } });
    const node = await cluster.nodeOf(keyOf(names[0]));
    const killer = node.client();
    await killer.ping();
    const soFar = await countOf(cluster, 'get');
    const answers = [];
    for (const name of names) {
      await reservation.lock('warm-up');
      await reservation.release('warm-up');
      // Both commands are in the sockets of the node, the SET first: the node runs it, and then ends the connection before it
      // has written a reply.
      node.pause();
      const answer = reservation.lock(name);
      await new Promise((resolve) => setTimeout(resolve, 10)); // no event shows when it has left the process
      const killed = killer.call('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes');
      await new Promise((resolve) => setTimeout(resolve, 5));
      node.resume();
      await killed;
      answers.push(await within(10000, answer));
      const [value, mine] = [await valueOf(cluster, name), reservation._reserve_val];
      assert.equal(value, mine);
    }
    assert.deepEqual(new Set(answers), new Set([true]), 'no other instance holds any of them');
    assert.ok((await countOf(cluster, 'get')) > soFar, 'what became of the SET was asked');
    assert.equal(await reservation.release(), names.length);
  });

  test('SETs under way when their master is killed: no key that nobody holds outlives its ttl', async (t) => {
    const ttl = 4;
    const by = 'storming';
    const reservation = onCluster(t, cluster, { by, ttl, interval: 400 });
    const losses = keepLosses(reservation);
    const names = namesOfShards(400, (number) => `storm ${number}`)
      .flat()
      .sort();
    const answers = new Map();
    let killing;
    const slot = cluster.slotOf(keyOf(names[0]));
    // 40 at a time, so that some are always under way, until some fail because the master has ended.
    const next = names.values();
    const storm = async () => {
      for (const name of next) {
        const answer = await reservation.lock(name).catch((error) => error);
        answers.set(name, { answer, val: reservation._reserve_val });
        if (answers.size === 100) killing = cluster.killMasterOf(slot);
        if (answer instanceof Error) return;
      }
    };
    const start = performance.now();
    await within(patient.timeout, Promise.all(Array.from({ length: 40 }, storm)));
    const first = await killing;
    await cluster.waitForPromotion(slot, first);
    await reservation.ensure_reservation().catch(() => {}); // this reports losses
    const outcomes = [...answers].map(([name, { answer }]) => [name, answer]);
    const failed = outcomes.filter(([, answer]) => answer instanceof Error);
    t.diagnostic(
      `${outcomes.length} answers, ${failed.length} errors, ${losses.length} losses, ${since(start)}`,
    );
    for (const [, error] of failed) assert.match(error.code, /^ERR_REDIS_(CONNECTION|TIMEOUT|REPLY)$/);
    assert.deepEqual(
      outcomes.filter(([, answer]) => answer === false),
      [],
      'no other instance tried any of them',
    );
    // Keys that it does not hold lapse by their ttl at the latest, and keys that it holds exist.
    const unknown = async () => {
      const values = await valuesOf(names);
      return names.filter((name, place) => values[place] !== null && !reservation.is_held(name));
    };
    await until(async () => (await unknown()).length === 0, {
      timeout: 1000 * ttl + 2000,
      what: 'the end of the keys that nobody holds',
    });
    const held = names.filter((name) => reservation.is_held(name));
    assert.ok((await valuesOf(held)).every((value) => value.startsWith(`${by}-`)));
    assert.equal(await reservation.release(), held.length);
  });
});

/** A cluster, a name of its first shard, and a proxy for all clients of that shard; null on redis 6.2. */
async function startProxied(t) {
  const cluster = await startCluster(t, { replicas: 0 });
  const [[name]] = namesOfShards(1);
  const node = await cluster.nodeOf(keyOf(name));
  if ((await majorOf(node)) < 7) {
    t.skip('a node of redis 6.2 that runs does not take another port to be known by');
    return null;
  }
  const proxy = await startProxy(t, node);
  await node.command('CONFIG', 'SET', 'cluster-announce-port', proxy.port);
  const isKnown = async (one) => JSON.stringify(await one.command('CLUSTER', 'SLOTS')).includes(proxy.port);
  await until(async () => (await Promise.all(cluster.nodes.map(isKnown))).every(Boolean), {
    ...patient,
    what: 'nodes that send clients to the proxy',
  });
  const options = { cluster: [{ host: proxy.host, port: proxy.port }] };
  return { cluster, name, proxy, reservation: onCluster(t, cluster, { ttl: 60, options }) };
}

test('a SET that reaches its node long after its connection ended: the key is deleted again', async (t) => {
  const proxied = await startProxied(t);
  if (!proxied) return;
  const { cluster, name, proxy, reservation } = proxied;
  const held = proxy.holdRequest(setOf(keyOf(name)));
  const locking = reservation.lock(name);
  await held.caught;
  assert.equal(await within(10000, locking), true, 'by another SET');
  assert.equal(await reservation.release(), 1);
  const soFar = await countOf(cluster, 'set');
  held.deliver();
  await tried(cluster, soFar);
  // In a cluster its connection cannot be killed, so the key is looked at for its whole ttl.
  await until(async () => (await valueOf(cluster, name)) === null, {
    timeout: 5000,
    what: 'the end of a key that nobody holds',
  });
});

test('a look whose GET is redirected and whose SET ran: the lock is acquired, and not sent again', async (t) => {
  const proxied = await startProxied(t);
  if (!proxied) return;
  const { cluster, name, proxy, reservation } = proxied;
  assert.equal(await reservation.lock(name), true);
  assert.equal(await reservation.release(), 1);
  // As with a slot that moved away, and back before the SET: CLIENT CACHING, GET, PTTL, SET.
  const moved = `-MOVED ${cluster.slotOf(keyOf(name))} ${proxy.host}:${proxy.port}`;
  proxy.corruptNext(`+OK\r\n${moved}\r\n:-2\r\n+OK\r\n`);
  const soFar = await countOf(cluster, 'set');
  const waiting = reservation.wait_until_lock(name, { signal: t.signal });
  waiting.catch(() => {});
  assert.equal(await within(5000, waiting, 'the lock'), keyOf(name));
  assert.equal(await countOf(cluster, 'set'), soFar + 1);
  assert.equal(reservation._reserve_val, await valueOf(cluster, name));
  assert.equal(await reservation.release(), 1);
});
