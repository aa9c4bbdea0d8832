// Keys that change under their holders and waiters: flushed, deleted, taken, cut short by redis's clock; and client tracking
// that forgets, or whose link breaks.
'use strict';

const assert = require('node:assert/strict');
const { test } = require('node:test');
const { commandCalls } = require('../support/commands');
const { patient, runChild, wait, ran, passed, allowOnlyClient } = require('../support/faults');
const { makeReservation, ask, askError, keepLosses } = require('../support/reservation');
const { startServer } = require('../support/server');
const { until, within } = require('../support/wait');

const key = 'reservation-job';

/** The ways in which all keys disappear at once. */
const ways = {
  FLUSHALL: (client) => client.flushall(),
  'a foreign DEL': async (client) => client.del(await client.keys('reservation-*')),
  "a jump of redis's clock": async (client) => {
    for (const name of await client.keys('reservation-*')) await client.pexpire(name, 1);
  },
  'a key of another type': async (client) => {
    for (const name of await client.keys('reservation-*'))
      await client.multi().del(name).sadd(name, 'x').exec();
  },
};

for (const [way, take] of Object.entries(ways)) {
  test(`${way}: each of many holders gets each loss once, and no key is set again`, async (t) => {
    const server = await startServer(t);
    const client = server.client();
    const count = 40;
    const reservations = Array.from({ length: count }, () => makeReservation(t, server, { interval: 200 }));
    const losses = reservations.map(keepLosses);
    const names = [0, 1, 2];
    await Promise.all(
      reservations.flatMap((one, index) => names.map((name) => one.lock(`${index} ${name}`))),
    );
    const values = Object.fromEntries(
      await Promise.all((await client.keys('*')).map(async (name) => [name, await client.get(name)])),
    );
    const signals = reservations.map(({ signal }) => signal);
    await take(client);
    await until(() => losses.every((list) => list.length >= names.length), {
      ...patient,
      what: 'the losses',
    });
    // The heartbeat of another lock goes on, so a second report or a silent renewal would show in this time.
    const other = makeReservation(t, server, { interval: 200 });
    await other.lock('other');
    await ran(client, 'pexpire', 3);
    losses.forEach((list, index) => {
      assert.deepEqual(
        list.map(({ key: lost, val }) => [lost, val]).sort(),
        names.map((name) => [`reservation-${index} ${name}`, values[`reservation-${index} ${name}`]]),
      );
    });
    for (const [index, one] of reservations.entries()) {
      assert.deepEqual(
        [one.held, one.signal === signals[index], one._lost_reservation, '_reserve_key' in one],
        [false, true, true, false],
      );
      assert.deepEqual(await ask((done) => one.release(done)), [null, 0]);
    }
    assert.ok(signals.every(({ aborted }) => aborted));
    const { set } = await commandCalls(client);
    assert.equal(set, count * names.length + 1, 'no key is set again');
  });
}

test('several losses at once: a release gives those that were not yet reported, and what it frees', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  const reservation = makeReservation(t, server, { interval: 60000, ttl: 600 });
  const losses = keepLosses(reservation);
  for (const name of ['a', 'b', 'c', 'd']) await reservation.lock(name);
  await client.del('reservation-a', 'reservation-c');
  const [error, second] = await Promise.all([
    askError((done) => reservation.release(done)),
    ask((done) => reservation.release(done)),
  ]);
  assert.deepEqual(
    [error.code, error.released, error.lost.sort()],
    ['ERR_RESERVATION_LOST', 2, ['reservation-a', 'reservation-c']],
  );
  assert.deepEqual([second, losses], [[null, 0], []]);
});

test('a key taken over by another process of this package: the loss names the new holder, whose lease is not touched', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  const reservation = makeReservation(t, server, { interval: 150, ttl: 20 });
  const losses = keepLosses(reservation);
  await reservation.lock('job');
  const { _reserve_val: val } = reservation;
  const code = `
    const reservation = make(300000, 600);
    reservation.on('lost', () => process.send({ lost: true }));
    process.on('message', () => reservation.release(report));
    reservation.wait_until_lock('job', () => process.send({ val: reservation._reserve_val }));`;
  const child = runChild(t, server, code);
  await until(async () => (await commandCalls(client)).set >= 2, { ...patient, what: 'its try' });
  await client.del(key);
  const thief = await child.message(() => true, patient);
  await until(() => losses.length > 0, { ...patient, what: 'the loss' });
  assert.equal(losses[0].message, `Worker ${val} lost ${key} to ${thief.val}`);
  assert.equal(losses[0].holder, thief.val);
  // Neither the heartbeat nor a release of the former holder shortens, extends or deletes the key.
  assert.deepEqual(await ask((done) => reservation.release(done)), [null, 0]);
  assert.equal(await reservation.lock('job'), false);
  assert.equal(await client.get(key), thief.val);
  assert.ok((await client.pttl(key)) > 570000);
  child.send('release');
  assert.deepEqual(await child.message(() => true, patient), { values: [1] });
});

test('a tracking table of one key: waiters wake for nothing, look again, and acquire the lock in time', async (t) => {
  const server = await startServer(t, { args: ['--tracking-table-max-keys', '1'] });
  const client = server.client();
  const names = Array.from({ length: 8 }, (_, index) => `job ${index}`);
  for (const name of names) await client.set(`reservation-${name}`, 'other');
  const got = new Set();
  const waits = names.map(async (name) => {
    await wait(t, makeReservation(t, server), name);
    got.add(name);
  });
  await until(async () => (await commandCalls(client)).set >= names.length * 2, {
    ...patient,
    what: 'tries',
  });
  const before = await commandCalls(client);
  const start = performance.now();
  await passed(start, 2000);
  const looks = (await commandCalls(client)).get - (before.get || 0);
  // Each look at one key makes redis forget another one, which wakes its waiter for nothing. The looks must be spaced out.
  const rate = looks / names.length / ((performance.now() - start) / 1000);
  assert.ok(rate < 200, `${rate} looks a second for each`);
  assert.equal(got.size, 0, 'no waiter acquired a held key');
  for (const name of names) {
    await client.del(`reservation-${name}`);
    await until(() => got.has(name), { timeout: 3000, what: `the wake for ${name}` });
  }
  await Promise.all(waits);
});

test('the tracking link is killed during a wait: the waiter sees changes on the new link', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  const reservation = makeReservation(t, server);
  const waits = [];
  for (let round = 0; round < 6; round += 1) {
    await client.set(key, 'other');
    const { get } = await commandCalls(client);
    const waiting = wait(t, reservation, 'job');
    await until(async () => ((await commandCalls(client)).get || 0) > (get || 0), {
      ...patient,
      what: 'a look',
    });
    const start = performance.now();
    // In one step: redis has no link left to send the invalidation to.
    await client
      .multi([
        ['client', 'kill', 'type', 'normal'],
        ['del', key],
      ])
      .exec();
    assert.equal(await within(20000, waiting), key);
    waits.push(performance.now() - start);
    assert.equal(await reservation.release(), 1);
  }
  waits.sort((one, other) => one - other);
  assert.ok(waits[2] < 700, `not by the poll of each second: ${waits}`);
});

test('where tracking is refused, waiters poll', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  await allowOnlyClient(client, 'id', 'kill');
  await client.set(key, 'other');
  const waiting = wait(t, makeReservation(t, server), 'job');
  await until(async () => (await commandCalls(client)).set >= 4, { ...patient, what: 'polls' });
  await client.del(key);
  assert.equal(await within(20000, waiting), key);
});

test('the token distinguishes two instances of one process', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  const [one, other] = [
    makeReservation(t, server, { interval: 60000, ttl: 600 }),
    makeReservation(t, server),
  ];
  const losses = keepLosses(one);
  await one.lock('job');
  await client.del(key);
  await other.lock('job');
  const [error] = await ask((done) => one.release(done));
  assert.deepEqual([error.code, error.holder], ['ERR_RESERVATION_LOST', other._reserve_val]);
  assert.deepEqual([await client.get(key), losses], [other._reserve_val, []]);
});
