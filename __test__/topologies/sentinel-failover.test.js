// A hundred held locks, with waiters for fifty of them in another process, while their master is killed (twice in a row),
// hangs, or is replaced on purpose: no lock is lost if the failover is shorter than the lease, none has two holders, and
// waiters acquire released locks from the new master.
'use strict';

const assert = require('node:assert/strict');
const { test } = require('node:test');
const { commandCalls } = require('../support/commands');
const { until, within } = require('../support/wait');
const { Crew, overlapsOf, startCrew } = require('./support/crew');
const { majorOf } = require('./support/looks');
const {
  accessTo,
  areRenewedSince,
  connectionsNamed,
  keyOf,
  startSteadySentinels,
  throughSentinels,
  valuesOn,
} = require('./support/through-sentinels');

const patient = { timeout: 20000 };
const resources = Array.from({ length: 100 }, (_, index) => `job ${index}`);
const wanted = resources.slice(0, 50);

/** How many SETs a node has run. */
async function setsOn(node) {
  const calls = await commandCalls({ info: (section) => node.command('INFO', section) });
  return calls.set || 0;
}

async function makeCrews(t, kit, settings) {
  const { password, options } = accessTo(kit);
  const access = { password, options: { ...options, client_name: 'waiters' } };
  const named = { ...settings, options: { client_name: 'holders' } };
  return {
    holders: new Crew('a holder', () => throughSentinels(t, kit, named), resources),
    waiters: await startCrew(t, 'a waiter', access, wanted, settings),
  };
}

/**
 * One failover while all locks are held and half of them are waited for, and the checks after it. `strike(first)` resolves
 * with the new master. Resolves with `{ first, second }`.
 */
async function survive(t, kit, { holders, waiters }, { ttl, strike }) {
  const first = await kit.master();
  await holders.take();
  const before = await setsOn(first);
  waiters.wait();
  await until(async () => (await setsOn(first)) >= before + wanted.length, {
    ...patient,
    what: 'a try of each waiter',
  });
  await until(() => kit.isReplicated(first), { ...patient, what: 'replicas that have it all' });

  const start = performance.now();
  const second = await strike(first);
  const promoted = performance.now();
  // The new master may have renewals from the old one, if that goes on.
  const since = first.awake ? promoted : start;
  await until(() => areRenewedSince(second, resources, since, ttl), {
    timeout: 1000 * ttl,
    what: 'renewals on the new master before the end of their leases',
  });
  const renewed = performance.now();
  assert.deepEqual(holders.losses, [], 'no loss was reported');
  assert.equal(holders.held.length, resources.length, 'all are held');
  assert.deepEqual(await valuesOn(second, resources), holders.values, 'by those who believe so');
  assert.equal(waiters.had.size, 0, 'no waiter has what another holds');

  const releasing = performance.now();
  assert.equal(await holders.release(), resources.length);
  await waiters.allHad();
  const had = performance.now();
  const values = wanted.map((resource) => waiters.had.get(resource).value);
  assert.deepEqual(await valuesOn(second, wanted), values, 'the waiters have it on the new master');
  const after = await waiters.release();
  assert.deepEqual([after.freed, after.losses], [wanted.length, []]);
  assert.deepEqual(overlapsOf([...holders.tenures, ...after.tenures]), [], 'nothing was held twice');
  assert.equal(await second.command('EXISTS', ...resources.map(keyOf)), 0, 'all is free again');
  const ms = (from, to) => `${Math.round(to - from)} ms`;
  t.diagnostic(
    `a new master after ${ms(start, promoted)}, all renewed there ${ms(promoted, renewed)} later, ` +
      `all waiters served ${ms(releasing, had)} after the release`,
  );
  return { first, second };
}

test('the master is killed, twice in a row', async (t) => {
  const kit = await startSteadySentinels(t);
  const settings = { ttl: 15, interval: 1000 };
  const crews = await makeCrews(t, kit, settings);
  const strike = async (first) => {
    await first.kill();
    return kit.waitForFailover(first);
  };
  const { first, second } = await survive(t, kit, crews, { ...settings, strike });
  await first.start();
  await kit.waitUntilHealthy();
  const { first: killed } = await survive(t, kit, crews, { ...settings, strike });
  assert.equal(killed, second, 'which was the new one');
});

test('the master hangs: clients move to the new one, and do not go back when the old one goes on', async (t) => {
  const kit = await startSteadySentinels(t);
  const settings = { ttl: 15, interval: 1000 };
  const crews = await makeCrews(t, kit, settings);
  const strike = async (first) => {
    first.pause();
    return kit.waitForFailover(first);
  };
  const { first, second } = await survive(t, kit, crews, { ...settings, strike });

  first.resume();
  await crews.holders.take();
  crews.waiters.wait();
  await until(async () => (await first.command('ROLE'))[0] === 'slave', {
    ...patient,
    what: 'the demotion of the old master',
  });
  await assert.rejects(first.command('SET', 'key', 'value'), /^ReplyError: READONLY/);
  const demoted = performance.now();
  await until(() => areRenewedSince(second, resources, demoted, settings.ttl), {
    ...patient,
    what: 'renewals on the new master after that',
  });
  for (const name of ['holders', 'waiters']) {
    assert.equal(await connectionsNamed(first, name), 0, `the ${name} have left the old master`);
    assert.equal(await connectionsNamed(second, name), 1, `the ${name} are at the new one`);
  }
  assert.deepEqual(crews.holders.losses, []);
  assert.equal(await crews.holders.release(), resources.length);
  await crews.waiters.allHad();
  const after = await crews.waiters.release();
  assert.deepEqual([after.freed, after.losses], [wanted.length, []]);
  assert.deepEqual(overlapsOf([...crews.holders.tenures, ...after.tenures]), []);
});

test('a lock under way at a hung master: the new master answers it, long before the end of its budget', async (t) => {
  const kit = await startSteadySentinels(t);
  const first = await kit.master();
  const reservation = throughSentinels(t, kit, { ttl: 90, options: { command_timeout: 60000 } });
  assert.equal(await reservation.lock('before'), true);
  await until(() => kit.isReplicated(first), { ...patient, what: 'replicas that have it' });
  first.pause();
  const locking = reservation.lock('job');
  locking.catch(() => {});
  const second = await kit.waitForFailover(first);
  // The sentinels are asked once a second. Then the old master has a quarter of a second for its last answers.
  assert.equal(await within(5000, locking, 'the lock'), true);
  assert.equal(await second.command('GET', keyOf('job')), reservation._reserve_val);
  assert.equal(await reservation.release(), 2);
});

test('planned failovers, there and back: no lock with a lease of five seconds is lost', async (t) => {
  const kit = await startSteadySentinels(t);
  const settings = { ttl: 5, interval: 500 };
  const crews = await makeCrews(t, kit, settings);
  const strike = () => kit.failover();
  await survive(t, kit, crews, { ...settings, strike });
  await kit.waitUntilHealthy();
  await survive(t, kit, crews, { ...settings, strike });
});

test('a planned failover at the pace of a real sentinel: clients leave the old master before its demotion', async (t) => {
  // A sentinel demotes the old master four such periods after it has promoted the new one. These are eight seconds, longer than
  // the lease: an instance that went on renewing at the old master would not be the holder on the new one.
  const kit = await startSteadySentinels(t, {}, { 'publish-period': 2000 });
  const settings = { ttl: 5, interval: 500 };
  const crews = await makeCrews(t, kit, settings);
  const { first } = await survive(t, kit, crews, { ...settings, strike: () => kit.failover() });
  assert.equal((await first.command('ROLE'))[0], 'master', 'it does not know it yet');
  for (const name of ['holders', 'waiters']) assert.equal(await connectionsNamed(first, name), 0, name);
});

test('after a failover new instances connect to the new master, whichever sentinel answers', async (t) => {
  const kit = await startSteadySentinels(t, {}, { 'publish-period': 2000 });
  const first = await kit.master();
  const second = await kit.failover();
  // All sentinels name the new master now, and the old one still claims to be a master.
  const led = await Promise.all(
    kit.addresses.map(async (address, index) => {
      const newcomer = throughSentinels(t, kit, { options: { sentinels: [address] } });
      assert.equal(await newcomer.lock(`free ${index}`), true);
      return (await second.command('EXISTS', keyOf(`free ${index}`))) === 1;
    }),
  );
  assert.equal((await first.command('ROLE'))[0], 'master', 'in time for what is to be seen');
  assert.deepEqual(led, [true, true, true]);
});

test('an operator demotes the master: it answers READONLY, and clients leave it', async (t) => {
  const kit = await startSteadySentinels(t);
  const first = await kit.master();
  if ((await majorOf(first)) < 7) {
    t.skip(
      'the sentinels of redis 6.2 do not name a replica that was promoted by hand, not within 30 seconds',
    );
    return;
  }
  const [replica] = await kit.replicas();
  const make = () =>
    throughSentinels(t, kit, { ttl: 15, interval: 200, options: { client_name: 'holders' } });
  const holders = new Crew('a holder', make, wanted);
  await holders.take();
  await until(() => kit.isReplicated(first), patient);
  // Unlike a sentinel, this closes no connection: only the answers show that the server is a replica now.
  await first.command('REPLICAOF', replica.host, replica.port);
  const demoted = performance.now();
  const second = await kit.waitForFailover(first);
  await until(() => areRenewedSince(second, wanted, demoted, 15), {
    ...patient,
    what: 'renewals on the new master',
  });
  assert.match(await first.command('INFO', 'errorstats'), /errorstat_READONLY/, 'it has refused some');
  await until(async () => (await connectionsNamed(first, 'holders')) === 0, {
    ...patient,
    what: 'the end of the connection to the old master',
  });
  assert.deepEqual(holders.losses, []);
  assert.deepEqual(await valuesOn(second, wanted), holders.values);
  assert.equal(await within(5000, holders.release()), wanted.length);
});
