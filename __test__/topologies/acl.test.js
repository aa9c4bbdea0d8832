// The documented rules are enough for everything, and all of them are needed. Also the locks of a user with fewer rules.
'use strict';

const assert = require('node:assert/strict');
const { test } = require('node:test');
const { commandCalls } = require('../support/commands');
const { ran, setOf } = require('../support/faults');
const { startProxy } = require('../support/proxy');
const { keepLog, keepLosses } = require('../support/reservation');
const { until } = require('../support/wait');
const { refused } = require('./support/acl');
const { connections, errorOf, majorOf, patient, reserve, wakeUp } = require('./support/looks');
const { startNode } = require('./support/node');
const { addWorker, everyServer, needed, optional, rules, scripts, setinfo } = require('./support/rules');

/** Less than 0.9 s, which is when a waiter polls. */
const promptly = 700;

/** Reservations of a user, on a server or on a proxy before it. */
function as(t, server, { username, password }, { options, ...settings } = {}) {
  return reserve(t, server, { username, ...options }, { password, ...settings });
}

/** The server's name for a refused command. Before redis 7, a subcommand has only the name of its command. */
async function nameOf(rule, server) {
  const command = rule.slice(1);
  return (await majorOf(server)) < 7 ? command.split('|')[0] : command;
}

/** Loses the reply of a SET and its connection, so that the core must find out the result. */
async function lockWithLostReply(proxy, reservation, resource) {
  const lost = proxy.dropReply(setOf(`reservation-${resource}`));
  const locking = reservation.lock(resource);
  locking.catch(() => {});
  await Promise.race([lost, locking]); // a user without SET never gets so far
  proxy.heal();
  return locking;
}

for (const { title, server: name, skip } of everyServer) {
  test(`the documented rules are enough, on ${title}`, { skip }, async (t) => {
    const server = await startNode(t, { server: name });
    const client = server.client();
    const user = await addWorker(server);
    const log = keepLog();
    const [one, other, third] = [1, 2, 3].map(() => as(t, server, user, { interval: 100, log }));
    const losses = [one, other, third].map(keepLosses);

    assert.equal(await one.lock('job'), true);
    assert.equal(await other.lock('job'), false);
    await ran(client, 'pexpire', 2);
    await one.ensure_reservation();
    const deletions = (await commandCalls(client)).del;
    const waiting = other.wait_until_lock('job', { timeout: patient.timeout });
    await ran(client, 'set');
    assert.equal(await one.release(), 1);
    assert.equal(await waiting, 'reservation-job');
    assert.equal((await commandCalls(client)).del, deletions, 'handed over, not freed');
    assert.equal(await other.release(), 1);

    assert.ok((await wakeUp(server, third, 'woken')) < promptly, 'the server tells of a key that is freed');
    await client.call('SCRIPT', 'FLUSH');
    assert.equal(await third.release(), 1, 'with scripts that the server has forgotten');

    const proxy = await startProxy(t, server);
    const unlucky = as(t, proxy, user);
    assert.equal(await lockWithLostReply(proxy, unlucky, 'settled'), true);
    assert.equal(await unlucky.release(), 1);

    const elsewhere = as(t, server, user, { options: { db: 2, min_replicas: 0 } });
    assert.equal(await elsewhere.lock('job'), true);
    assert.equal(await elsewhere.release(), 1);
    const replicated = as(t, server, user, { options: { min_replicas: 1, command_timeout: 100 } });
    // The server has no replicas. Here only the permission to ask for them matters.
    assert.notEqual((await errorOf(replicated.lock('job'))).code, 'ERR_REDIS_AUTH');

    await third.lock('stolen');
    await client.del('reservation-stolen');
    assert.equal((await errorOf(third.ensure_reservation())).code, 'ERR_RESERVATION_LOST');
    await until(async () => (await client.dbsize()) === 0, { ...patient, what: 'the end of all keys' });
    assert.deepEqual([log.of('waiting-by-polling'), losses], [[], [[], [], []]]);
    assert.deepEqual(await refused(server, user.username), []);
  });
}

test('each of the rules is needed', async (t) => {
  const server = await startNode(t);
  const client = server.client();
  const proxy = await startProxy(t, server);
  for (const rule of rules.filter((one) => one.startsWith('+'))) {
    const name = `without-${rule.replace(/\W/g, '')}`;
    const user = await addWorker(server, { username: name, without: [rule] });
    // One after another, so that only the refused command is missing.
    const tryAll = [
      () => lockWithLostReply(proxy, as(t, proxy, user), name),
      () => as(t, server, user, { options: { db: 2 } }).lock(name),
      () =>
        as(t, server, user, { options: { min_replicas: 1, command_timeout: 50 } }).lock(`${name} replicated`),
      async () => {
        const reservation = as(t, server, user);
        await client.set('reservation-held', 'somebody', 'PX', 60000);
        await reservation.wait_until_lock('held', { timeout: 50 }).catch(() => {});
        await reservation.lock(`${name} lost`);
        await client.del(`reservation-${name} lost`);
        await reservation.ensure_reservation();
      },
      async () => {
        const reservation = as(t, server, user);
        await reservation.lock(`${name} renewed`);
        await client.call('SCRIPT', 'FLUSH');
        await reservation.ensure_reservation().finally(() => reservation.release());
      },
    ];
    for (const work of tryAll) await work().catch(() => {});
    const missed = await refused(server, user.username);
    assert.ok(missed.includes(await nameOf(rule, server)), `${rule}: ${missed}`);
  }
});

test('all optional rules can be missing at once', async (t) => {
  const server = await startNode(t);
  const client = server.client();
  const user = await addWorker(server, { rules: [...needed, scripts[0]], without: [setinfo] });
  const log = keepLog();
  const [one, other] = [1, 2].map(() => as(t, server, user, { interval: 100, log }));
  const losses = [one, other].map(keepLosses);
  assert.equal(await one.lock('job'), true);
  await ran(client, 'pexpire', 2);
  const waiting = other.wait_until_lock('job', { timeout: patient.timeout });
  await ran(client, 'set');
  assert.equal(await one.release(), 1);
  await waiting;
  assert.equal(await other.release(), 1);
  assert.equal((await connections(server)).length, 0, 'it could not give its name');
  assert.deepEqual(losses, [[], []]);
  // Without invalidations there are polls, and one line says so.
  const after = await wakeUp(server, one, 'one');
  assert.ok(after > 300 && after < 3000, `${after} ms`);
  assert.equal(log.of('waiting-by-polling').length, 1);
  assert.equal(await one.release(), 1);
});

for (const rule of ['+client|tracking', '+client|caching']) {
  test(`without ${rule} waiters poll, and a line says so and names the rule`, async (t) => {
    const server = await startNode(t);
    const user = await addWorker(server, { without: [rule] });
    const log = keepLog();
    const [one, other] = [1, 2].map(() => as(t, server, user, { log }));
    const after = await wakeUp(server, one, 'job');
    assert.ok(after > 300 && after < 3000, `${after} ms`);
    assert.equal(
      (await errorOf(other.wait_until_lock('job', { timeout: 100 }))).code,
      'ERR_RESERVATION_TIMEOUT',
    );
    const lines = log.of('waiting-by-polling');
    assert.deepEqual(
      lines.map(({ level, endpoint }) => [level, endpoint]),
      [['warning', server.address]],
    );
    assert.ok(lines[0].reason.includes(`'${await nameOf(rule, server)}'`), lines[0].reason);
  });
}

for (const without of [[scripts[0]], [scripts[1]]]) {
  test(`without ${without} locks are still renewed and released`, async (t) => {
    const server = await startNode(t);
    const reservation = as(t, server, await addWorker(server, { without }), { interval: 100 });
    await reservation.lock('job');
    await ran(server.client(), 'pexpire', 2);
    assert.equal(await reservation.release(), 1);
  });
}

for (const without of [[], ['+client|kill'], ['+client|info']]) {
  test(`a SET that lands late leaves no key, without ${without.join() || 'nothing'}`, async (t) => {
    const server = await startNode(t);
    const client = server.client();
    const proxy = await startProxy(t, server);
    const user = await addWorker(server, { without });
    const reservation = as(t, proxy, user, { ttl: 5, options: { command_timeout: 500 } });
    const held = proxy.holdRequest(setOf('reservation-job'));
    const locking = reservation.lock('job');
    await held.caught;
    proxy.heal();
    assert.equal(await locking, true, 'with another SET');
    assert.equal(await reservation.release(), 1);
    const sets = (await commandCalls(client)).set;
    held.deliver();
    if (without.length === 0) {
      // Its connection is dead: redis drops the commands that are still in it.
      assert.equal((await connections(server)).length, 1, 'only the new one');
      // Before redis 7 the statistics have no subcommands.
      if ((await majorOf(server)) >= 7) assert.equal((await commandCalls(client))['client|kill'], 1);
    } else {
      // It runs, and its key is deleted long before the end of the ttl.
      await until(async () => (await commandCalls(client)).set > sets, { ...patient, what: 'the late SET' });
      await until(async () => (await client.dbsize()) === 0, { timeout: 2000, what: 'the end of its key' });
    }
    assert.equal(await client.exists('reservation-job'), 0);
  });
}

test('without the options db and min_replicas, no rule for them is needed', async (t) => {
  const server = await startNode(t);
  const user = await addWorker(server, { without: Object.values(optional) });
  const reservation = as(t, server, user);
  assert.equal(await reservation.lock('job'), true);
  assert.equal(await reservation.release(), 1);
  assert.deepEqual(await refused(server, user.username), []);
});
