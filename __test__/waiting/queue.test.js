// The queue of one process for one key keeps its order, whichever waiters leave it and how.
'use strict';

const assert = require('node:assert/strict');
const { test } = require('node:test');
const { runChild } = require('../support/faults');
const { makeReservation } = require('../support/reservation');
const { startServer } = require('../support/server');
const { until } = require('../support/wait');
const { key, startPeer, tries, tried, WOKEN, median, show, now } = require('./kit');

/**
 * In a process: 200 waiters, each a separate instance. Some leave by timeout or abort, before the first is served or while
 * others are. Sends the order in which the rest were served.
 */
const crowd = `
  const { setTimeout: sleep } = require('node:timers/promises');
  const holder = make(300000, 600);
  const served = [];
  const left = [];
  async function one(number, controllers) {
    const instance = make(300000, 600);
    const options = {};
    if (number % 5 === 1) options.timeout = 50 + number;
    if (number % 5 === 3) {
      const controller = new AbortController();
      controllers.push(controller);
      options.signal = controller.signal;
    }
    try {
      await instance.wait_until_lock('job', options);
    } catch (error) {
      left.push([number, error.name]);
      return;
    }
    served.push(number);
    await sleep(1);
    await instance.release();
  }
  async function main() {
    await holder.lock('job');
    const [early, late] = [[], []];
    const calls = Array.from({ length: 200 }, (_, number) => one(number, number % 2 ? early : late));
    process.send('waiting');
    await sleep(400); // all timeouts are over
    early.forEach((controller) => controller.abort());
    await sleep(20);
    await holder.release();
    // While others are served.
    await sleep(20);
    late.forEach((controller) => controller.abort());
    await Promise.all(calls);
    process.send({ served, left });
    process.disconnect();
  }
  main();`;

test('200 waiters are served in order, without those that leave', async (t) => {
  const server = await startServer(t);
  const child = runChild(t, server, crowd);
  const { served, left } = await child.message(({ served: some }) => some, { timeout: 20000 });
  assert.deepEqual(
    served,
    [...served].sort((one, other) => one - other),
  );
  assert.equal(served.length + left.length, 200);
  assert.ok(
    left.every(([number, name]) => number % 5 === { ReservationTimeoutError: 1, AbortError: 3 }[name]),
    `no other waiter has left: ${left}`,
  );
  // All timeouts, the aborts before the first was served, and some of the later aborts.
  assert.ok(left.length > 60, `${left.length} have left`);
  await until(async () => (await server.client().dbsize()) === 0, { what: 'a free key' });
  assert.deepEqual(await child.exit(), { code: 0, signal: null }, child.stderr);
});

/** Five in the queue for a key that the client holds. */
async function five(t) {
  const server = await startServer(t);
  const client = server.client();
  const peer = await startPeer(t, server);
  await client.set(key, 'somebody', 'EX', 600);
  const earlier = await tries(client);
  const waits = [];
  for (let number = 0; number < 5; number += 1) {
    waits.push(peer.start(`waiter ${number}`, 'wait_until_lock', 'job', { abortable: true }));
  }
  await tried(client, earlier);
  return { server, client, peer, waits };
}

test('when a waiter in the middle leaves, and then the first, the rest are served without a delay', async (t) => {
  const { client, peer, waits } = await five(t);
  for (const number of [2, 0]) {
    peer.abort(waits[number].id);
    assert.equal((await waits[number].answer).error, 'AbortError');
  }
  const times = [];
  let freed = now();
  await client.del(key);
  for (const number of [1, 3, 4]) {
    const { at, error, val } = await waits[number].answer;
    assert.deepEqual([error, await client.get(key)], [null, val]);
    times.push(at - freed);
    freed = now();
    await peer.callOf(`waiter ${number}`, 'release');
  }
  assert.ok(median(times) < WOKEN && Math.max(...times) < 800, show(times));
  assert.equal(await client.exists(key), 0);
});

test('the first waiter leaves at the moment when the key is freed: the second acquires it', async (t) => {
  const times = [];
  for (let round = 0; round < 5; round += 1) {
    const { client, peer, waits } = await five(t);
    const freed = now();
    peer.abort(waits[0].id);
    await client.del(key);
    // The first may have acquired it before the abort.
    if ((await waits[0].answer).error === null) await peer.callOf('waiter 0', 'release');
    const { at, error } = await waits[1].answer;
    assert.equal(error, null);
    times.push(at - freed);
  }
  assert.ok(median(times) < WOKEN, show(times));
});

test('after all waiters have left, none asks redis', async (t) => {
  const { client, peer, waits } = await five(t);
  for (const { id } of waits) peer.abort(id);
  for (const { answer } of waits) assert.equal((await answer).error, 'AbortError');
  const before = await tries(client);
  await client.del(key);
  const start = now();
  await until(() => now() - start > 1300, { what: 'more than a poll' });
  assert.equal(await tries(client), before);
  assert.equal(await client.exists(key), 0);
});

test('a waiter that comes when the queue has just ended starts a new one', async (t) => {
  const server = await startServer(t);
  const peer = await startPeer(t, server);
  const start = now();
  for (let round = 0; round < 200; round += 1) {
    // The last waiter is served, and its lock is freed, while the next one joins.
    const waiting = peer.callOf(`waiter ${round % 3}`, 'wait_until_lock', 'job');
    assert.equal((await waiting).error, null);
    const next = peer.callOf(`waiter ${(round + 1) % 3}`, 'wait_until_lock', 'job');
    await peer.callOf(`waiter ${round % 3}`, 'release');
    assert.equal((await next).error, null);
    await peer.callOf(`waiter ${(round + 1) % 3}`, 'release');
  }
  assert.ok(now() - start < 20 * 900, 'woken, not polled');
});

test('the timeout of an answered wait ends no later wait', async (t) => {
  const server = await startServer(t);
  const make = () => makeReservation(t, server, { ttl: 60, log: false });
  const [holder, first, behind] = [make(), make(), make()];
  await holder.lock('job');
  const timeout = 600;
  const start = now();
  const served = first.wait_until_lock('job', { timeout });
  // This one keeps the queue alive.
  const waiting = [behind.wait_until_lock('job')];
  await holder.release();
  await served;
  // Numbers of answered calls are reused, the latest first: one of these calls has the number of the wait.
  const others = [make(), make(), make()];
  waiting.push(...others.map((one) => one.wait_until_lock('job')));
  let failure = null;
  for (const wait of waiting) wait.catch((error) => (failure = error));
  await until(() => now() - start > timeout + 200, { what: 'more than the time of the first wait' });
  assert.equal(failure, null);
  for (const [index, one] of [first, behind, ...others].entries()) {
    assert.equal(await one.release(), 1);
    if (index < waiting.length) await waiting[index];
  }
});
