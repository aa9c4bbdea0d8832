// Connections that break and servers that restart while somebody waits: whoever waits looks again as soon as redis can be
// reached, and is told of changes again.
'use strict';

const assert = require('node:assert/strict');
const { test } = require('node:test');
const { startProxy } = require('../support/proxy');
const { startServer } = require('../support/server');
const { until, within } = require('../support/wait');
const { key, startPeer, tries, tried, startWaiting, WOKEN, median, show, now } = require('./kit');

async function prepare(t) {
  const server = await startServer(t);
  return { server, client: server.client(), peer: await startPeer(t, server) };
}

/** In the same breath, so that nobody is told of the deletion. */
const killAndDelete = (client) => client.pipeline().client('KILL', 'TYPE', 'normal').del(key).exec();

test('the connection is killed, and the key is deleted meanwhile', async (t) => {
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
  // A quarter of a second is the longest pause before another attempt to connect; the poll would take 0.9 s.
  assert.ok(median(times) < 500, show(times));
});

test('the connection is killed, and the key is deleted when there is another one', async (t) => {
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
  assert.ok(median(times) < WOKEN, `it is told of changes again: ${show(times)}`);
});

test('the word of a change is lost: the poll finds out', async (t) => {
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
  // What the tests of wake-ups would take without them.
  assert.ok(after > 600 && after < 2500, `${after} ms`);
});

test('redis cannot be reached when the key is deleted', async (t) => {
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
  assert.ok(at - back < 800, `had ${at - back} ms after the outage`);
});

test('redis restarts without its data: every waiter has its key at once', async (t) => {
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

test('redis restarts with its data: it is waited on, and the end is told again', async (t) => {
  const { server, client, peer } = await prepare(t);
  await client.set(key, 'somebody', 'EX', 600);
  const { answer } = await startWaiting(peer, client);
  await server.restart({ data: true, down: 300 });
  // Its books are new ones.
  await tried(client, 0);
  assert.equal(await client.get(key), 'somebody');
  const freed = now();
  await client.del(key);
  const { at, error } = await answer;
  assert.equal(error, null);
  assert.ok(at - freed < 450, `had after ${at - freed} ms`);
});
