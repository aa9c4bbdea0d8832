// Replies that are lost, late, cut or garbled, and requests that run after their connection is gone: each call ends in a known
// state, and no key stays that nobody holds.
'use strict';

const assert = require('node:assert/strict');
const { test } = require('node:test');
const { commandCalls } = require('../support/commands');
const { patient, wait, setOf, scriptFor, ran, allowOnlyClient } = require('../support/faults');
const { startProxy } = require('../support/proxy');
const { connect, makeReservation, ask, askError, keepLosses } = require('../support/reservation');
const { startServer } = require('../support/server');
const { until, within } = require('../support/wait');

const key = 'reservation-job';

/** A server behind a proxy, and a reservation whose connection through it is up. */
async function setUp(t, settings = {}) {
  const server = await startServer(t);
  const proxy = await startProxy(t, server);
  await connect(t, proxy);
  const reservation = makeReservation(t, proxy, { ttl: 600, ...settings });
  return { server, proxy, reservation, client: server.client(), losses: keepLosses(reservation) };
}

test('the reply of a SET is lost: the token shows that the key is ours', async (t) => {
  const { proxy, reservation, client } = await setUp(t);
  for (const take of [() => reservation.lock('job'), () => reservation.wait_until_lock('job')]) {
    const before = (await commandCalls(client)).set;
    const dropped = proxy.dropReply(setOf(key));
    const taken = take();
    await dropped;
    assert.ok([true, key].includes(await within(10000, taken)));
    assert.equal(await client.get(key), reservation._reserve_val);
    assert.equal((await commandCalls(client)).set, before + 1, 'asked, not tried again');
    assert.deepEqual(await ask((done) => reservation.release(done)), [null, 1]);
    assert.equal(await client.exists(key), 0);
  }
});

test('the reply of a SET that found the key held is lost: the lock answers false', async (t) => {
  const { proxy, reservation, client } = await setUp(t);
  await client.set(key, 'other');
  const dropped = proxy.dropReply(setOf(key));
  const locking = reservation.lock('job');
  await dropped;
  assert.equal(await within(10000, locking), false);
  assert.equal(await client.get(key), 'other');
});

test('the reply of a SET is lost and redis is unreachable: an error, and the key is deleted afterwards', async (t) => {
  const { proxy, reservation, client } = await setUp(t);
  const dropped = proxy.dropReply(setOf(key));
  const failing = askError((done) => reservation.lock('job', done));
  await proxy.refuse();
  await dropped;
  const error = await within(10000, failing);
  assert.equal(error.code, 'ERR_REDIS_CONNECTION');
  assert.deepEqual([await client.exists(key), reservation.held], [1, false], 'it was applied');
  await proxy.accept();
  // Without a holder or a waiter: the undo alone reconnects.
  await until(async () => !(await client.exists(key)), { ...patient, what: 'the end of the orphan' });
  assert.equal(await reservation.lock('job'), true);
});

for (const allowed of [true, false]) {
  const title = `a SET that lands after the reconnect leaves no key, CLIENT KILL ${allowed ? 'allowed' : 'refused'}`;
  test(title, async (t) => {
    const { proxy, reservation, client } = await setUp(t);
    if (!allowed) await allowOnlyClient(client, 'id', 'tracking', 'caching');
    const held = proxy.holdRequest(setOf(key));
    const locking = reservation.lock('job');
    await held.caught;
    assert.equal(await within(10000, locking), true, 'taken on the new connection');
    assert.equal(await client.get(key), reservation._reserve_val);
    const stats = await commandCalls(client);
    // Redis 6.2 does not count subcommands.
    if ('client|info' in stats) assert.equal(stats['client|kill'] || 0, allowed ? 1 : 0);
    assert.equal(await reservation.release(), 1);
    const { set } = stats;
    held.deliver();
    if (allowed) {
      // Its connection is closed, so it can never run.
      for (const name of ['a', 'b', 'c']) await reservation.lock(name);
      assert.equal((await commandCalls(client)).set, set + 3);
    } else {
      await until(async () => (await commandCalls(client)).set === set + 1, {
        ...patient,
        what: 'the late SET',
      });
    }
    await until(async () => !(await client.exists(key)), { ...patient, what: 'the end of the orphan' });
    assert.equal(await reservation.lock('job'), true);
    assert.equal(await client.get(key), reservation._reserve_val);
  });

  test(`${title}, of a call that has already failed`, async (t) => {
    const { proxy, reservation, client } = await setUp(t, { options: { connect_timeout: 500 } });
    if (!allowed) await allowOnlyClient(client, 'id', 'tracking', 'caching');
    const held = proxy.holdRequest(setOf(key));
    const failing = askError((done) => reservation.lock('job', done));
    await held.caught;
    await proxy.refuse();
    const error = await within(10000, failing);
    assert.equal(error.code, 'ERR_REDIS_CONNECTION');
    const { set } = await commandCalls(client);
    held.deliver();
    await until(async () => (await commandCalls(client)).set === set + 1, {
      ...patient,
      what: 'the late SET',
    });
    assert.equal(await client.exists(key), 1);
    await proxy.accept();
    await until(async () => !(await client.exists(key)), { ...patient, what: 'the end of the orphan' });
  });
}

test('the reply of a release is lost: it is sent again and counted once, without a false loss', async (t) => {
  const { proxy, reservation, client, losses } = await setUp(t);
  await reservation.lock('job');
  const { signal } = reservation;
  const dropped = proxy.dropReply(scriptFor(key));
  const releasing = ask((done) => reservation.release(done));
  await dropped;
  assert.deepEqual(await within(10000, releasing), [null, 1]);
  assert.equal(await client.exists(key), 0);
  assert.deepEqual([losses, signal.aborted], [[], false]);
});

for (const taken of [false, true]) {
  const title = taken ? ', also after another has acquired it' : '';
  test(`the replies of a release are lost for good: the second release counts the key${title}`, async (t) => {
    const { proxy, reservation, client, losses } = await setUp(t);
    await reservation.lock('job');
    const dropped = proxy.dropReply(scriptFor(key));
    const failing = askError((done) => reservation.release(done));
    await proxy.refuse();
    await dropped;
    const error = await within(10000, failing);
    assert.deepEqual([error.code, error.failed], ['ERR_REDIS_CONNECTION', [key]]);
    assert.equal(await client.exists(key), 0, 'it was applied');
    if (taken) await client.set(key, 'thief-1');
    await proxy.accept();
    assert.deepEqual(await ask((done) => reservation.release(done)), [null, 1]);
    assert.deepEqual(await ask((done) => reservation.release(done)), [null, 0]);
    assert.deepEqual(losses, []);
    assert.equal(await client.get(key), taken ? 'thief-1' : null);
  });
}

test('a late release that was already repeated frees no other holder', async (t) => {
  const { proxy, reservation, client, losses } = await setUp(t);
  await allowOnlyClient(client, 'id', 'tracking', 'caching');
  await reservation.lock('job');
  const held = proxy.holdRequest(scriptFor(key));
  const releasing = ask((done) => reservation.release(done));
  await held.caught;
  assert.deepEqual(await within(10000, releasing), [null, 1]);
  assert.equal(await reservation.lock('job'), true);
  const { get } = await commandCalls(client);
  held.deliver();
  await until(async () => (await commandCalls(client)).get > get, { ...patient, what: 'the late release' });
  assert.equal(await client.get(key), reservation._reserve_val);
  assert.deepEqual([reservation.held, losses], [true, []]);
});

test('the reply of a renewal is lost: no loss, and ensure_reservation succeeds', async (t) => {
  const { proxy, reservation, client, losses } = await setUp(t, { interval: 300, ttl: 5 });
  await reservation.lock('job');
  for (let round = 0; round < 3; round += 1) {
    await proxy.dropReply(scriptFor(key));
    await ran(client, 'pexpire', 1);
  }
  assert.deepEqual([reservation.held, losses], [true, []]);
  const dropped = proxy.dropReply(scriptFor(key));
  const renewing = reservation.ensure_reservation().catch((error) => error);
  await dropped;
  const outcome = await within(10000, renewing);
  assert.ok(outcome === undefined || outcome.code === 'ERR_REDIS_CONNECTION', outcome);
  await reservation.ensure_reservation();
  assert.deepEqual([reservation.held, losses], [true, []]);
});

test('replies cut in the middle: the connection is discarded, and the calls are retried', async (t) => {
  const { proxy, reservation, client, losses } = await setUp(t, { interval: 300 });
  for (const size of [0, 1, 2, 3, 4]) {
    proxy.truncateNext(size);
    assert.equal(await within(10000, reservation.lock(`job ${size}`)), true, `lock, ${size} bytes`);
    proxy.truncateNext(size);
    assert.equal(await within(10000, reservation.release()), 1, `release, ${size} bytes`);
  }
  await reservation.lock('job');
  proxy.truncateNext(7); // this time in the handshake
  proxy.cut();
  await ran(client, 'pexpire', 2);
  assert.deepEqual([reservation.held, losses], [true, []]);
  assert.deepEqual(await client.keys('*'), [key]);
});

test('garbage instead of a reply: the calls fail or are retried, and later calls succeed', async (t) => {
  const { proxy, reservation, client, losses } = await setUp(t, { options: { command_timeout: 400 } });
  const random = Buffer.from(Array.from({ length: 512 }, (_, index) => (index * 7919 + 13) % 251));
  const rubbish = {
    'no RESP at all': 'HTTP/1.1 400 Bad Request\r\n\r\n',
    'zero bytes': '\x00\x00\x00\r\n',
    'random bytes': random,
    'a length with a letter': '$-5x\r\n\r\n',
    'a string that never comes': '$536870912\r\nabc',
    'an array that never comes': '*2147483647\r\n',
    'an array of no length that a number holds': '*99999999999999999999\r\n',
    'arrays in arrays': '*1\r\n'.repeat(50000),
  };
  await reservation.lock('held');
  for (const [what, bytes] of Object.entries(rubbish)) {
    proxy.corruptNext(bytes);
    const got = await within(
      10000,
      reservation.lock(what).catch((error) => error),
      what,
    );
    if (got instanceof Error) assert.match(got.code, /^ERR_REDIS_(CONNECTION|TIMEOUT|REPLY)$/, what);
    proxy.corruptNext(bytes);
    const renewed = await within(
      10000,
      reservation.ensure_reservation().catch((error) => error),
      what,
    );
    if (renewed instanceof Error) assert.match(renewed.code, /^ERR_REDIS_(CONNECTION|TIMEOUT|REPLY)$/, what);
    proxy.heal();
    await until(() => reservation.lock(`after ${what}`), { ...patient, what: `a lock after ${what}` });
  }
  assert.equal(reservation.is_held('held'), true);
  assert.deepEqual(losses, []);
  // Whatever each call answered, in the end redis has the keys that we hold, and no others.
  const orphans = async () => {
    const names = (await client.keys('*')).map((name) => name.slice('reservation-'.length));
    return names.filter((name) => !reservation.is_held(name));
  };
  await until(async () => (await orphans()).length === 0, { timeout: 5000, what: 'no orphans' }).catch(
    () => {},
  );
  assert.deepEqual(await orphans(), [], 'keys that nobody holds');
  const count = await client.dbsize();
  assert.equal(await reservation.release(), count);
  assert.equal(await client.dbsize(), 0);
});

test('a reply to SET that is neither OK nor null is handled like a lost one', async (t) => {
  const { proxy, reservation, client } = await setUp(t);
  for (const bytes of [':7\r\n', '+QUEUED\r\n', '*0\r\n']) {
    proxy.corruptNext(bytes);
    const got = await within(
      10000,
      reservation.lock('job').catch((error) => error),
    );
    if (got === true) {
      assert.equal(await client.get(key), reservation._reserve_val);
      assert.equal(await reservation.release(), 1);
    }
    await until(async () => !(await client.exists(key)), { what: `the end of the orphan after ${got}` });
  }
});

test('a reply missing between others: later calls get their own replies', async (t) => {
  const { proxy, reservation, client } = await setUp(t, { options: { command_timeout: 500 } });
  proxy.corruptNext(''); // drops the reply
  const first = reservation.lock('first').catch((error) => error);
  await until(() => client.exists('reservation-first'), { ...patient, interval: 1, what: 'the first key' });
  // From now on each reply would be taken for the previous one.
  await within(10000, Promise.all([first, reservation.lock('second').catch((error) => error)]));
  await until(() => reservation.lock('job'), { timeout: 5000, what: 'a call that is answered in time' });
  assert.equal(await makeReservation(t, proxy).lock('job'), false);
  assert.equal(await client.get(key), reservation._reserve_val);
});

test('commands and replies in single bytes change nothing', async (t) => {
  // The time does not matter: each of some thousand bytes takes a turn of two event loops.
  const settings = { ttl: 90, options: { connect_timeout: 60000, command_timeout: 30000 } };
  const { proxy, reservation, client, losses } = await setUp(t, { ...settings, interval: 500 });
  proxy.slice(1);
  proxy.cut(); // so that the handshake comes in single bytes, too
  assert.equal(await reservation.lock('job'), true);
  assert.equal(await makeReservation(t, proxy, settings).lock('job'), false);
  const other = makeReservation(t, proxy, settings);
  const waiting = wait(t, other, 'job');
  await ran(client, 'pexpire', 2);
  assert.equal(await reservation.release(), 1);
  assert.equal(await within(60000, waiting), key);
  assert.equal(await other.release(), 1);
  assert.deepEqual([losses, await client.dbsize()], [[], 0]);
});
