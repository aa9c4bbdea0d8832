// Connections that break and servers that restart during a wait: the waiter looks again as soon as redis is reachable, and
// wakes at changes again.
'use strict';

const assert = require('node:assert/strict');
const { test } = require('node:test');
const { setTimeout: sleep } = require('node:timers/promises');
const { startProxy } = require('../support/proxy');
const { keepLog, makeReservation } = require('../support/reservation');
const { startServer } = require('../support/server');
const { until, within } = require('../support/wait');
const { key, startPeer, tries, tried, startWaiting, WOKEN, median, show, now } = require('./kit');

async function prepare(t) {
  const server = await startServer(t);
  return { server, client: server.client(), peer: await startPeer(t, server) };
}

/** In one transaction, so that no invalidation of the deletion is sent. */
const killAndDelete = (client) => client.pipeline().client('KILL', 'TYPE', 'normal').del(key).exec();

test('the connection is killed, and the key is deleted before the reconnect', async (t) => {
  const { client, peer } = await prepare(t);
  const times = [];
  for (let round = 0; round < 5; round += 1) {
    await client.set(key, 'somebody', 'EX', 600);
    const { answer } = await startWaiting(peer, client);
    const freed = now();
    await killAndDelete(client);
    const { at, error } = await answer;
    assert.equal(error, null);
    times.push(at - freed);
    await peer.callOf('waiter', 'release');
  }
  t.diagnostic(show(times));
  // The longest pause between two tries to connect is 0.25 s. The poll would come after 0.9 s.
  assert.ok(median(times) < 500, show(times));
});

test('the connection is killed, and the key is deleted after the reconnect', async (t) => {
  const { client, peer } = await prepare(t);
  const times = [];
  for (let round = 0; round < 5; round += 1) {
    await client.set(key, 'somebody', 'EX', 600);
    const { answer } = await startWaiting(peer, client);
    const earlier = await tries(client);
    await client.client('KILL', 'TYPE', 'normal');
    await tried(client, earlier);
    const freed = now();
    await client.del(key);
    times.push((await answer).at - freed);
    await peer.callOf('waiter', 'release');
  }
  t.diagnostic(show(times));
  assert.ok(median(times) < WOKEN, `invalidations come again: ${show(times)}`);
});

test('an invalidation is lost: the poll finds the change', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  const proxy = await startProxy(t, server);
  const peer = await startPeer(t, proxy);
  await client.set(key, 'somebody', 'EX', 600);
  const { answer } = await startWaiting(peer, client);
  const lost = new Promise((resolve) => {
    const matches = (chunk) => chunk.includes('invalidate');
    proxy.set('down', { onRequest: { matches, act: () => resolve() } });
  });
  const freed = now();
  await client.del(key);
  await within(5000, lost, 'the word of the change');
  const after = (await answer).at - freed;
  // The time that the tests of wake-ups would take without invalidations.
  assert.ok(after > 600 && after < 2500, `${after} ms`);
});

test('redis is unreachable when the key is deleted', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  const proxy = await startProxy(t, server);
  const peer = await startPeer(t, proxy);
  await client.set(key, 'somebody', 'EX', 600);
  const { answer } = await startWaiting(peer, client);
  await proxy.refuse();
  proxy.cut();
  await client.del(key);
  await until(() => peer.linesOf('redis-error').length > 0, { what: 'a line that says so' });
  const start = now();
  await until(() => now() - start > 1200, { what: 'an outage of more than a poll' });
  assert.equal(await client.exists(key), 0);
  const back = now();
  await proxy.accept();
  const { at, error } = await answer;
  assert.equal(error, null);
  assert.ok(at - back < 800, `acquired ${at - back} ms after the outage`);
});

test('redis restarts without its data: every waiter acquires its key at once', async (t) => {
  const { server, client, peer } = await prepare(t);
  const names = ['a', 'b', 'c'];
  const waits = [];
  for (const name of names) {
    await client.set(`reservation-${name}`, 'somebody', 'EX', 600);
    waits.push(await startWaiting(peer, client, name, name));
  }
  await server.restart({ down: 300 });
  const back = now();
  const answers = await Promise.all(waits.map(({ answer }) => answer));
  const times = answers.map(({ at }) => at - back);
  assert.ok(Math.max(...times) < 800, show(times));
  for (const [index, name] of names.entries()) {
    assert.equal(await client.get(`reservation-${name}`), answers[index].val);
  }
});

test('redis restarts with its data: the wait goes on, and wakes at the end of the key', async (t) => {
  const { server, client, peer } = await prepare(t);
  await client.set(key, 'somebody', 'EX', 600);
  const { answer } = await startWaiting(peer, client);
  await server.restart({ data: true, down: 300 });
  // Its counters start at zero.
  await tried(client, 0);
  assert.equal(await client.get(key), 'somebody');
  const freed = now();
  await client.del(key);
  const { at, error } = await answer;
  assert.equal(error, null);
  assert.ok(at - freed < 450, `had after ${at - freed} ms`);
});

/** How a wait ends during an outage. */
const ends = {
  'whose time is up': { timeout: 1500 },
  'that is aborted': { abort: true },
};

for (const [title, { timeout, abort }] of Object.entries(ends)) {
  test(`after a wait ${title} while redis is down, nothing connects any more`, async (t) => {
    const server = await startServer(t);
    const proxy = await startProxy(t, server);
    const log = keepLog();
    const reservation = makeReservation(t, proxy, { log, ttl: 2 });
    const client = server.client();
    await client.set(key, 'somebody', 'EX', 600);
    const aborting = new AbortController();
    const waiting = reservation.wait_until_lock('job', { timeout, signal: aborting.signal });
    await until(() => log.of('reservation-attempted').length > 0, { what: 'the answer to its first try' });
    // New connections only reach the proxy.
    await server.kill();
    const before = proxy.accepted;
    if (abort) until(() => proxy.accepted > before + 1).then(() => aborting.abort());
    const error = await within(
      10000,
      waiting.catch((reason) => reason),
    );
    assert.ok(['ERR_RESERVATION_TIMEOUT', 'ABORT_ERR', 20].includes(error.code), String(error));
    assert.ok(proxy.accepted > before, 'they connected while they waited');
    // The undo of a poll without an answer ends with the ttl. After that, nothing needs a connection. The fault was at least
    // four tries a second, for ever.
    let seen;
    const deadline = now() + 10000;
    do {
      assert.ok(now() < deadline, `${proxy.accepted - seen} connections in the last 1.5 s`);
      seen = proxy.accepted;
      await sleep(1500);
    } while (proxy.accepted > seen + 1);
  });
}

test('a key that is handed over after the ttl of its waiter is given back, and acquired again at once', async (t) => {
  const server = await startServer(t);
  const proxy = await startProxy(t, server);
  const holder = makeReservation(t, proxy, { ttl: 60 });
  const waiter = makeReservation(t, proxy, { ttl: 3, interval: 0 });
  await holder.lock('job');
  const client = server.client();
  const earlier = await tries(client);
  const waiting = waiter.wait_until_lock('job', { signal: t.signal });
  await tried(client, earlier);
  // Connecting hangs for longer than the ttl of the waiter, which the hand-over has set.
  proxy.stall();
  proxy.cut();
  await until(() => proxy.links.size > 0, { what: 'the next connection' });
  const releasing = holder.release();
  await sleep(3300);
  proxy.heal();
  const healed = now();
  assert.equal(await within(10000, releasing), 1);
  assert.equal(await within(10000, waiting), key);
  assert.ok(now() - healed < 1500, `${now() - healed} ms`);
});
