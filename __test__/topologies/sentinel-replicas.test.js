// min_replicas with sentinels. Without it, a failover can forget a lock, since replication is asynchronous. With it, a lock
// that no replica has fails, and an acquired lock survives the failover.
'use strict';

const assert = require('node:assert/strict');
const { test } = require('node:test');
const { commandCalls } = require('../support/commands');
const { passed } = require('../support/faults');
const { keepLosses, askError } = require('../support/reservation');
const { until, within } = require('../support/wait');
const { keyOf, startSteadySentinels, throughSentinels } = require('./support/through-sentinels');
const { contend, watchExclusion } = require('./support/workload');

const key = keyOf('job');
const patient = { timeout: 20000 };

/**
 * From now on the replicas get no writes. Stopping them is not enough: they would later read what is in their sockets.
 */
async function cutOff(master, replicas) {
  for (const replica of replicas) replica.pause();
  await master.command('CLIENT', 'KILL', 'TYPE', 'replica');
  await until(async () => (await master.command('ROLE'))[2].length === 0, {
    what: 'a master without replicas',
  });
}

test('without min_replicas, a failover can forget a lock that only the master had, and another instance acquires it', async (t) => {
  const kit = await startSteadySentinels(t);
  const first = await kit.master();
  const replicas = await kit.replicas();
  const holder = throughSentinels(t, kit, { ttl: 15, interval: 300 });
  const losses = keepLosses(holder);
  await cutOff(first, replicas);
  assert.equal(await holder.lock('job'), true);
  const value = holder._reserve_val;
  await first.kill();
  for (const replica of replicas) replica.resume();
  const second = await kit.waitForFailover(first);
  const other = throughSentinels(t, kit, { options: { client_name: 'another' } });
  assert.equal(await other.lock('job'), true, 'to redis it was free');
  // The first holder gets the loss at its first renewal on the new master.
  await until(() => losses.length > 0, { ...patient, what: 'the loss' });
  assert.ok(losses[0].message.startsWith(`Worker ${value} lost `), losses[0].message);
  assert.equal(holder.held, false);
  assert.equal(await second.command('GET', key), other._reserve_val, 'the other one keeps it');
  assert.deepEqual([other.held, losses.length, await holder.release()], [true, 1, 0]);
});

test('with min_replicas such a lock fails within its budget, and the key is given back', async (t) => {
  const kit = await startSteadySentinels(t);
  const master = await kit.master();
  const replicas = await kit.replicas();
  const options = { min_replicas: 1, command_timeout: 1200 };
  const reservation = throughSentinels(t, kit, { ttl: 15, options });
  assert.equal(await reservation.lock('before'), true, 'with replicas it succeeds');
  // The sentinels do nothing while the replicas are down. The master is up all the time.
  await cutOff(master, replicas);
  const start = performance.now();
  const error = await within(
    10000,
    askError((done) => reservation.lock('job', done)),
  );
  const took = performance.now() - start;
  assert.equal(error.code, 'ERR_TOO_FEW_REPLICAS', error.message);
  assert.match(error.message, /\b0\b.*\b1\b|\b1\b.*\b0\b/, 'how many replicas have it, and how many must');
  assert.equal(error.key, key);
  assert.ok(took < 1200 + 600, `within its limit: ${took} ms`);
  assert.deepEqual([reservation.is_held('job'), reservation.is_held('before')], [false, true]);
  await until(async () => (await master.command('EXISTS', key)) === 0, { what: 'the key given back' });
  const other = throughSentinels(t, kit, { ttl: 15 });
  assert.equal(await other.lock('job'), true, 'for who does without');
  assert.equal(await other.release(), 1);
});

test('a wait outlasts the lack of replicas, and a lock beside it fails within its budget', async (t) => {
  const kit = await startSteadySentinels(t);
  const master = await kit.master();
  const replicas = await kit.replicas();
  await cutOff(master, replicas);
  const options = { min_replicas: 1, command_timeout: 1200 };
  const [waiter, other] = [1, 2].map(() => throughSentinels(t, kit, { ttl: 15, options }));
  let had = null;
  const waiting = waiter.wait_until_lock('job', { signal: t.signal }).then((value) => {
    had = value;
  });
  waiting.catch(() => {});
  await until(async () => (await master.command('EXISTS', key)) === 1, { what: 'a try of the waiter' });
  // Calls with min_replicas take turns on their connection. One that waits for hours must not block the others.
  const locking = other.lock('other').catch((caught) => caught);
  try {
    const error = await within(5000, locking);
    assert.equal(error.code, 'ERR_TOO_FEW_REPLICAS', String(error));
    assert.deepEqual([had, waiter.held], [null, false], 'not before there are replicas');
  } finally {
    // Also after a failure: a pending wait would outlive the test.
    for (const replica of replicas) replica.resume();
    await locking;
  }
  await within(20000, waiting);
  assert.equal(had, key);
  assert.equal(await master.command('GET', key), waiter._reserve_val);
});

test('a wait that is aborted while replicas are missing makes no more tries', async (t) => {
  const kit = await startSteadySentinels(t, { replicas: 0 });
  const [master] = kit.nodes;
  const tries = async () => {
    const calls = await commandCalls({ info: (section) => master.command('INFO', section) });
    return calls.set || 0;
  };
  const waiter = throughSentinels(t, kit, { ttl: 15, options: { min_replicas: 1, command_timeout: 400 } });
  const aborting = new AbortController();
  const waiting = waiter.wait_until_lock('job', { signal: aborting.signal });
  await until(async () => (await tries()) >= 2, { ...patient, what: 'tries' });
  aborting.abort();
  await assert.rejects(waiting, { name: 'AbortError' });
  const [aborted, before] = [performance.now(), await tries()];
  await passed(aborted, 1500);
  const more = (await tries()) - before;
  assert.ok(more <= 1, `but for one that was under way: ${more}`);
  assert.equal(await master.command('EXISTS', key), 0, 'and leaves nothing');
});

test('with min_replicas a lock succeeds once a replica has it, and survives the loss of the master', async (t) => {
  const kit = await startSteadySentinels(t);
  const first = await kit.master();
  const [slow, quick] = await kit.replicas();
  slow.pause();
  quick.pause();
  const options = { min_replicas: 1, command_timeout: 5000 };
  const holder = throughSentinels(t, kit, { ttl: 15, interval: 300, options });
  const losses = keepLosses(holder);
  let had = false;
  const locking = holder.lock('job').then((got) => {
    had = got;
  });
  await until(async () => (await first.command('EXISTS', key)) === 1, { what: 'the key on the master' });
  assert.deepEqual([had, holder.held], [false, false], 'the master alone is not enough');
  quick.resume();
  await within(5000, locking);
  const [value, acquired] = [holder._reserve_val, performance.now()];
  assert.equal(had, true);
  await first.kill();
  slow.resume();
  const second = await kit.waitForFailover(first);
  assert.equal(await second.command('GET', key), value);
  await until(async () => (await second.command('PTTL', key)) > 15000 - (performance.now() - acquired), {
    ...patient,
    what: 'its renewal there',
  });
  const other = throughSentinels(t, kit, { options });
  assert.equal(await other.lock('job'), false);
  assert.deepEqual([holder.held, losses], [true, []]);
  assert.equal(await holder.release(), 1);
  assert.equal(await other.lock('job'), true);
});

test('one contended resource through a failover: never two holders at once, and the lock stays usable', async (t) => {
  const kit = await startSteadySentinels(t);
  const first = await kit.master();
  const exclusion = watchExclusion(t);
  // Each has a separate connection, as separate processes would: with a shared one they would hand the lock over.
  const make = (index) =>
    throughSentinels(t, kit, {
      ttl: 4,
      interval: 300,
      options: { min_replicas: 1, client_name: `fighter-${index}` },
    });
  const contest = contend(t, make, 'prize', { exclusion });
  await until(() => contest.turns >= 20, { ...patient, what: 'turns before' });
  await first.kill();
  const second = await kit.waitForFailover(first);
  const before = contest.turns;
  await until(() => contest.turns >= before + 20, { ...patient, what: 'turns on the new master' });
  const { errors } = await contest.stop();
  exclusion.assertNever();
  const strange = errors.filter(
    ({ code }) => !['ERR_RESERVATION_LOST', 'ERR_REDIS_CONNECTION', 'ERR_REDIS_TIMEOUT'].includes(code),
  );
  assert.deepEqual(strange, []);
  await until(async () => (await second.command('EXISTS', keyOf('prize'))) === 0, { what: 'the end of all' });
});
