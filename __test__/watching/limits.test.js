// Where there is no watch, and what a watch costs: RESP2, missing rights, many renewals, a full tracking table, a key that
// never rests.
'use strict';

const assert = require('node:assert/strict');
const { suite, test } = require('node:test');
const { commandCalls, countCommands } = require('../support/commands');
const { keepLosses, makeReservation } = require('../support/reservation');
const { startServer } = require('../support/server');
const { until } = require('../support/wait');
const { key, rarely, looks, watched, holding } = require('./kit');

const passed = (ms) => {
  const start = performance.now();
  return until(() => performance.now() - start > ms, { timeout: ms + 20000, what: `${ms} ms` });
};

const refusals = {
  'CLIENT TRACKING is forbidden by ACL': { rules: ['-client|tracking'], most: 0 },
  // The first look learns of it.
  'CLIENT CACHING is forbidden by ACL': { rules: ['-client|caching'], most: 1 },
  'HELLO is renamed away, so there is only RESP2': { args: ['--rename-command', 'HELLO', ''], most: 0 },
};

suite('without a watch', { concurrency: true }, () => {
  for (const [title, { args, rules, most }] of Object.entries(refusals)) {
    test(`${title}: the loss is found at the next renewal`, async (t) => {
      const server = await startServer(t, { args });
      const client = server.client();
      if (rules) await client.acl('SETUSER', 'default', ...rules);
      const reservation = makeReservation(t, server, { interval: 2500, ttl: 60 });
      const losses = keepLosses(reservation);
      await reservation.lock('job');
      const { calls } = await countCommands(client, () => passed(1500));
      assert.equal(calls.get || 0, most, JSON.stringify(calls));
      await client.del(key);
      await until(() => losses.length > 0, { what: 'the loss', timeout: 5000 });
      assert.equal(losses[0].code, 'ERR_RESERVATION_LOST');
      assert.equal(losses.length, 1);
    });
  }

  test('PTTL is forbidden by ACL: the change is reported all the same', async (t) => {
    const server = await startServer(t);
    const client = server.client();
    await client.acl('SETUSER', 'default', '-pttl');
    const reservation = makeReservation(t, server, rarely);
    const losses = keepLosses(reservation);
    await reservation.lock('job');
    await watched(client);
    await client.del(key);
    await until(() => losses.length === 1, { what: 'the loss', timeout: 5000 });
  });
});

test('more than 1,000 renewals a second are not watched; the watch comes back when there are fewer', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  const busy = makeReservation(t, server, { interval: 100, ttl: 60 });
  const quiet = makeReservation(t, server, { ...rarely, ttl: 1801 });
  const losses = keepLosses(quiet);
  await quiet.lock('job');
  await watched(client);
  await Promise.all(Array.from({ length: 300 }, (_, number) => busy.lock(`busy ${number}`)));
  await passed(2500);
  const { calls } = await countCommands(client, () => passed(1000));
  assert.ok(calls.pexpire > 1500, JSON.stringify(calls));
  assert.equal(calls['client|caching'], undefined, JSON.stringify(calls));
  await busy.release();
  await passed(2500);
  await quiet.ensure_reservation();
  const before = await looks(client);
  await watched(client, 0, before);
  await client.del(key);
  await until(() => losses.length === 1, { what: 'the loss', timeout: 5000 });
});

test('somebody touches the key without pause: looks are spaced out, and the watch goes on', async (t) => {
  const { client, reservation, losses, value } = await holding(t);
  let touches = 0;
  const start = performance.now();
  const { calls } = await countCommands(client, async () => {
    while (performance.now() - start < 4000) {
      await client.set(key, value, 'EX', 1800);
      touches += 1;
    }
  });
  assert.ok(touches > 1000, `${touches} touches`);
  assert.ok(calls['client|caching'] < 60, JSON.stringify(calls));
  assert.deepEqual([reservation.held, losses], [true, []]);
  await client.del(key);
  await until(() => losses.length === 1, { what: 'the loss', timeout: 5000 });
});

test('somebody shortens the ttl without pause: it is put back, at a bounded rate', async (t) => {
  const { client, reservation, losses } = await holding(t);
  const start = performance.now();
  const { calls } = await countCommands(client, async () => {
    while (performance.now() - start < 4000) await client.pexpire(key, 3000);
  });
  assert.ok(calls.evalsha < 60, JSON.stringify(calls));
  await until(async () => (await client.pttl(key)) > 1700000, { what: 'the old ttl', timeout: 3000 });
  assert.deepEqual([reservation.held, losses], [true, []]);
});

test('a tracking table that is too small for all keys: nothing is lost, and looks are bounded', async (t) => {
  const server = await startServer(t, { args: ['--tracking-table-max-keys', '10'] });
  const client = server.client();
  const reservation = makeReservation(t, server, { ...rarely, ttl: 1800 });
  const losses = keepLosses(reservation);
  await Promise.all(Array.from({ length: 200 }, (_, number) => reservation.lock(`job ${number}`)));
  await passed(3000);
  const { calls } = await countCommands(client, () => passed(4000));
  assert.ok((calls['client|caching'] || 0) < 4 * 1100, JSON.stringify(calls));
  assert.deepEqual([reservation.held, losses], [true, []]);
  await client.flushall();
  await until(() => losses.length === 200, { what: 'all losses', timeout: 20000 });
});

test('thousands of leases: a FLUSHALL is told to each, and no other command is held up', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  const reservation = makeReservation(t, server, rarely);
  const losses = keepLosses(reservation);
  const count = 3000;
  await Promise.all(Array.from({ length: count }, (_, number) => reservation.lock(`job ${number}`)));
  const all = (before) =>
    until(async () => (await looks(client)) >= before + count, {
      what: 'all watches',
      timeout: 30000,
      interval: 100,
    });
  // A thousand a second.
  await all(0);
  // More renewals than may be watched: each ends its watch, which is taken up again.
  const before = await looks(client);
  await reservation.ensure_reservation();
  await all(before);
  const renewed = (await commandCalls(client)).pexpire;
  await client.flushall();
  await until(() => losses.length === count, { what: 'all losses', timeout: 10000 });
  assert.equal(reservation.held, false);
  const after = await commandCalls(client);
  assert.equal(after.pexpire, renewed, 'a loss is no renewal');
});

test('a renewal that a caller asked for is refused, and the change reported meanwhile is found all the same', async (t) => {
  const { client, reservation, losses } = await holding(t);
  await client.client('PAUSE', 1000, 'ALL');
  // One step, before the renewal that waits behind it: paused clients go on in the order in which they came.
  const changed = client.multi().acl('SETUSER', 'default', '-eval', '-evalsha').del(key).exec();
  await passed(200);
  await assert.rejects(reservation.ensure_reservation(), { code: 'ERR_REDIS_AUTH' });
  await changed;
  await client.acl('SETUSER', 'default', '+@all');
  await until(() => losses.length === 1, { what: 'the loss', timeout: 5000 });
  assert.equal(reservation.held, false);
});
