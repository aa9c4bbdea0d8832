// Overriding lock() methods that acquire several names, that acquire one and still answer false, or that do not take what a
// waiter acquired for them: only held locks count as acquired, and no key stays that nobody holds.
'use strict';

const assert = require('node:assert/strict');
const { setTimeout: sleep } = require('node:timers/promises');
const { test } = require('node:test');
const { peek } = require('../../lib/leases/state');
const { commandCalls, countCommands } = require('../support/commands');
const { ReserveResource, makeReservation } = require('../support/reservation');
const { startServer } = require('../support/server');
const { until, within } = require('../support/wait');
const { key, ours, tried } = require('./kit');

/** Holds two keys or none. */
class Pair extends ReserveResource {
  async lock(resource) {
    if (!(await super.lock(`left-${resource}`))) return false;
    if (await super.lock(`right-${resource}`)) return true;
    await this.release(`left-${resource}`);
    return false;
  }
}

test('a method that locks two names: the wait acquires both or none', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  for (const side of ['left', 'right']) {
    await client.set(`reservation-${side}-job`, 'other', 'EX', 600);
    const reservation = makeReservation(t, server, { Class: Pair });
    const waiting = reservation.wait_until_lock('job');
    await tried(client, 2);
    assert.equal(reservation.held, false);
    await client.del(`reservation-${side}-job`);
    await within(5000, waiting);
    assert.deepEqual([reservation.is_held('left-job'), reservation.is_held('right-job')], [true, true]);
    assert.equal(await reservation.release(), 2);
  }
  // One of two names, left behind by a method that does not clean up, is not enough.
  class Careless extends ReserveResource {
    async lock(resource) {
      return (await super.lock(`left-${resource}`)) && super.lock(`right-${resource}`);
    }
  }
  await client.set('reservation-right-job', 'other', 'EX', 600);
  const careless = makeReservation(t, server, { Class: Careless });
  await assert.rejects(careless.wait_until_lock('job', { timeout: 2500 }), {
    code: 'ERR_RESERVATION_TIMEOUT',
  });
  assert.equal(await careless.release(), 1);
  await client.del('reservation-right-job');
  // An instance that already holds one of them still waits.
  const reservation = makeReservation(t, server, { Class: Pair });
  await client.set('reservation-left-job', 'other', 'EX', 600);
  await ours.call(reservation, 'right-job');
  await assert.rejects(reservation.wait_until_lock('job', { timeout: 1200 }), {
    code: 'ERR_RESERVATION_TIMEOUT',
  });
});

test('a method that acquires the lock and answers false: the wait goes on, also while it is held', async (t) => {
  const server = await startServer(t);
  let is_leader = false;
  class Own extends ReserveResource {
    lock(resource, callback) {
      super.lock(`prod-${resource}`, (err, status) => callback(err, status && is_leader));
    }
  }
  const reservation = makeReservation(t, server, { Class: Own });
  await assert.rejects(reservation.wait_until_lock('job', { timeout: 2500 }), {
    code: 'ERR_RESERVATION_TIMEOUT',
  });
  assert.equal(await reservation.release(), 1);
  is_leader = true;
  assert.equal(await reservation.wait_until_lock('job'), key);
});

test('a lock acquired before the abort, by a method that has not answered, is released', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  let taken = () => {};
  const has_taken = new Promise((resolve) => (taken = resolve));
  class Own extends ReserveResource {
    async lock(resource) {
      await super.lock(`prod-${resource}`);
      taken();
      return new Promise(() => {});
    }
  }
  const reservation = makeReservation(t, server, { Class: Own });
  const controller = new AbortController();
  const waiting = reservation.wait_until_lock('job', { signal: controller.signal });
  await has_taken;
  assert.equal(reservation.held, true);
  controller.abort();
  await assert.rejects(waiting, { name: 'AbortError' });
  await until(async () => !(await client.exists(key)), { what: 'a free key' });
  assert.equal(reservation.held, false);
});

test('a lock that also answered another wait is not released by the abort of the first', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  let turns = 0;
  class Own extends ReserveResource {
    async lock(resource) {
      const status = await super.lock(`prod-${resource}`);
      turns += 1;
      return turns === 1 ? new Promise(() => {}) : status;
    }
  }
  const reservation = makeReservation(t, server, { Class: Own });
  const controller = new AbortController();
  const first = reservation.wait_until_lock('job', { signal: controller.signal });
  await until(() => turns === 1, { what: 'the first turn' });
  assert.equal(await reservation.wait_until_lock('job'), key);
  controller.abort();
  await assert.rejects(first, { name: 'AbortError' });
  assert.equal(reservation.held, true);
  assert.equal(await client.get(key), reservation._reserve_val);
  assert.equal(await reservation.release(), 1);
});

test('a method that locks one of several names: the wait acquires the first that is free', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  class Slots extends ReserveResource {
    async lock(resource) {
      for (const slot of [1, 2, 3]) if (await super.lock(`${resource}-${slot}`)) return true;
      return false;
    }
  }
  const holders = [1, 2, 3].map(() => makeReservation(t, server, { Class: Slots }));
  for (const holder of holders) await holder.wait_until_lock('slot');
  assert.equal((await client.keys('*')).length, 3);
  const waiter = makeReservation(t, server, { Class: Slots });
  const waiting = waiter.wait_until_lock('slot');
  await tried(client, 3);
  await holders[1].release();
  assert.equal(await within(5000, waiting), 'reservation-slot-2');
});

/** A class whose lock() takes another resource, or, while `paused`, none. */
function pausable() {
  return class Own extends ReserveResource {
    static paused = false;

    lock(resource, callback) {
      if (Own.paused) setImmediate(callback, null, false);
      else super.lock(`prod-${resource}`, callback);
    }
  };
}

test('a lock that its round does not take is released at once, and not acquired again in every round', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  const Own = pausable();
  await client.set(key, 'other', 'EX', 600);
  const waiter = makeReservation(t, server, { Class: Own });
  const waiting = waiter.wait_until_lock('job');
  await tried(client, 2);
  Own.paused = true;
  const { calls } = await countCommands(client, async () => {
    await client.del(key);
    await until(async () => (await commandCalls(client)).evalsha >= 1, { what: 'it to go back' });
    await sleep(1200);
    assert.equal(await client.exists(key), 0);
  });
  assert.ok(calls.set <= 2, `${calls.set} tries`);
  assert.equal(waiter.held, false);
  assert.equal('_reserve_key' in waiter, false);
  Own.paused = false;
  assert.equal(await within(5000, waiting), key);
});

test('a lock that no round takes and that redis refuses to release leaves no number behind', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  const Own = pausable();
  await client.set(key, 'other', 'EX', 600);
  const controller = new AbortController();
  t.after(() => controller.abort());
  const waiter = makeReservation(t, server, { Class: Own });
  const waiting = waiter.wait_until_lock('job', { signal: controller.signal });
  waiting.catch(() => {});
  await tried(client, 2);
  const { native } = peek(waiter);
  const { release } = native;
  const given_back = [];
  t.mock.method(native, 'release', function (number, ...others) {
    given_back.push({ number, value: native.value_of(number) });
    return release.call(native, number, ...others);
  });
  await server.command('ACL', 'SETUSER', 'default', '-evalsha', '-eval');
  Own.paused = true;
  await client.del(key);
  await until(() => given_back.length > 0, { what: 'the release' });
  const [{ number, value }] = given_back;
  assert.match(value, /^worker-/);
  await until(() => native.value_of(number) === null, { what: 'the number to be free' });
  controller.abort();
  await assert.rejects(waiting, { name: 'AbortError' });
});
