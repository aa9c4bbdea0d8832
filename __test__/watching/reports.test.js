// A change of a held key by somebody else is told at once, minutes before the next renewal.
'use strict';

const assert = require('node:assert/strict');
const { suite, test } = require('node:test');
const { countCommands } = require('../support/commands');
const { keepLosses, makeReservation } = require('../support/reservation');
const { startServer } = require('../support/server');
const { until } = require('../support/wait');
const { key, rarely, looks, watched, holding } = require('./kit');

/** Title -> what happens to the key, and who then has it. */
const ways = {
  DEL: { change: (client) => client.del(key) },
  UNLINK: { change: (client) => client.unlink(key) },
  'DEL in a script': { change: (client) => client.eval(`return redis.call('del', KEYS[1])`, 1, key) },
  'DEL in a transaction': { change: (client) => client.multi().del(key).exec() },
  'SET by a thief': { change: (client) => client.set(key, 'a thief', 'EX', 600), holder: 'a thief' },
  'DEL and SET in a transaction': {
    change: (client) => client.multi().del(key).set(key, 'a thief', 'EX', 600).exec(),
    holder: 'a thief',
  },
  APPEND: { change: (client) => client.append(key, '!'), holder: (value) => `${value}!` },
  'RENAME to another name': { change: (client) => client.rename(key, 'elsewhere') },
  'RENAME of another key to its name': {
    change: (client) => client.multi().set('elsewhere', 'a thief').rename('elsewhere', key).exec(),
    holder: 'a thief',
  },
  'MOVE to another database': { change: (client) => client.move(key, 1) },
  'a ttl that is over': { change: (client) => client.pexpire(key, -1) },
  'a value of another type': { change: (client) => client.multi().del(key).lpush(key, 'x').exec() },
  eviction: {
    change: async (client) => {
      await client.config('SET', 'maxmemory-policy', 'volatile-ttl');
      await client.config('SET', 'maxmemory', '1');
    },
  },
  FLUSHALL: { change: (client) => client.flushall() },
  'FLUSHALL ASYNC': { change: (client) => client.flushall('ASYNC') },
  FLUSHDB: { change: (client) => client.flushdb() },
};

suite('a foreign change', { concurrency: 4 }, () => {
  for (const [title, { change, holder }] of Object.entries(ways)) {
    test(`${title}: the loss is told once, and held is false at that moment`, async (t) => {
      const { client, reservation, losses, value } = await holding(t);
      const { signal } = reservation;
      let held;
      reservation.on('lost', () => (held = [reservation.held, reservation.is_held('job'), signal.aborted]));
      await change(client);
      await until(() => losses.length > 0, { what: 'the loss', timeout: 5000 });
      assert.deepEqual(held, [false, false, true]);
      assert.equal(losses[0].code, 'ERR_RESERVATION_LOST');
      const thief = typeof holder === 'function' ? holder(value) : holder;
      assert.equal(losses[0].holder, thief);
      assert.equal(await reservation.release(), 0);
      assert.equal(losses.length, 1);
    });
  }

  for (const interval of [600000, Infinity]) {
    test(`the ttl is shortened or removed: it is put back (interval ${interval})`, async (t) => {
      const { client, reservation, losses } = await holding(t, { interval });
      for (const change of [() => client.pexpire(key, 5000), () => client.persist(key)]) {
        await change();
        await until(async () => (await client.pttl(key)) > 1700000, { what: 'the old ttl' });
      }
      assert.deepEqual([reservation.held, losses], [true, []]);
      assert.equal(await reservation.release(), 1);
    });
  }
});

test('a lease that is never renewed: the loss is emitted, and never thrown', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  const reservation = makeReservation(t, server, { ...rarely, interval: Infinity });
  await reservation.lock('job');
  await watched(client);
  await client.del(key);
  await until(() => !reservation.held, { what: 'the loss' });
  // A loss that is to be thrown is thrown in the next tick.
  await new Promise((resolve) => setImmediate(resolve));
  await assert.rejects(reservation.release(), { code: 'ERR_RESERVATION_LOST' });
});

test('redis restarts without data: the loss is told as soon as the connection is up again', async (t) => {
  for (const interval of [600000, Infinity]) {
    const { server, losses } = await holding(t, { interval, server: { args: ['--save', ''] } });
    await server.kill();
    await server.start();
    await until(() => losses.length === 1, { what: 'the loss', timeout: 5000 });
  }
});

test('the watch outlasts renewals, reports that change nothing, and a connection that broke', async (t) => {
  const { client, reservation, losses, value } = await holding(t, { interval: 300, ttl: 1800 });
  const start = performance.now();
  await until(() => performance.now() - start > 1500, { what: 'some renewals' });
  reservation.heartbeat_interval = 600000;
  await reservation.release();
  assert.deepEqual(losses, []);

  const other = makeReservation(t, { host: client.options.host, port: client.options.port }, rarely);
  const others = keepLosses(other);
  await other.lock('job');
  const before = await looks(client);
  await watched(client, 1, before);
  assert.notEqual(other._reserve_val, value);
  for (let time = 1; time <= 5; time += 1) {
    const seen = await looks(client);
    await client.set(key, other._reserve_val, 'EX', 1800);
    await watched(client, 1, seen);
  }
  await other.ensure_reservation();
  const kills = await looks(client);
  await client.client('KILL', 'TYPE', 'normal', 'SKIPME', 'yes');
  await watched(client, 1, kills);
  assert.deepEqual([other.held, others], [true, []]);
  await client.del(key);
  await until(() => others.length === 1, { what: 'the loss', timeout: 5000 });
});

test('a lock that is released within a second costs no command more', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  const reservation = makeReservation(t, server, rarely);
  await reservation.lock('warm-up');
  await reservation.release();
  const { calls } = await countCommands(client, async () => {
    for (let time = 0; time < 5; time += 1) {
      await reservation.lock('job');
      await reservation.release();
    }
    const start = performance.now();
    await until(() => performance.now() - start > 1300, { what: 'the age of a watch' });
  });
  // The client of the tests asks the server for it when it connects.
  delete calls.info;
  assert.deepEqual(calls, { set: 5, evalsha: 5, get: 5, del: 5 });
});
