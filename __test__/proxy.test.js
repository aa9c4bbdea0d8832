// The proxy that breaks connections: each fault has the effect that its name says, seen through a real client.
'use strict';

const assert = require('node:assert/strict');
const { test } = require('node:test');
const Redis = require('ioredis');
const { startServer } = require('./support/server');
const { startProxy } = require('./support/proxy');
const { until, within } = require('./support/wait');

async function setUp(t, options = {}) {
  const server = await startServer(t);
  const proxy = await startProxy(t, server);
  const client = new Redis({
    port: proxy.port,
    host: proxy.host,
    maxRetriesPerRequest: 0,
    retryStrategy: () => 20,
    disconnectTimeout: 50,
    ...options,
  });
  client.on('error', () => {});
  t.after(() => client.disconnect());
  assert.equal(await client.set('greeting', 'hello'), 'OK');
  return { server, proxy, client, direct: server.client() };
}

test('cuts connections, with and without a reset, and the client reconnects', async (t) => {
  const { proxy, client } = await setUp(t);
  for (const reset of [false, true]) {
    const before = proxy.accepted;
    proxy.cut({ reset });
    await until(() => proxy.accepted > before, { what: 'a new connection' });
    assert.equal(await until(() => client.get('greeting'), { what: 'an answer' }), 'hello');
  }
});

test('stalls one direction, and goes on where it stopped', async (t) => {
  const { proxy, client, direct } = await setUp(t);
  proxy.stall('down');
  const written = client.set('greeting', 'again');
  await until(async () => (await direct.get('greeting')) === 'again', { what: 'the write' });
  await assert.rejects(within(100, written), /did not come/);
  proxy.heal();
  assert.equal(await within(1000, written), 'OK');
});

test('loses everything, and the connection stays open', async (t) => {
  const { proxy, client, direct } = await setUp(t);
  proxy.lose('up');
  await assert.rejects(within(100, client.set('greeting', 'lost')), /did not come/);
  proxy.heal();
  assert.equal(await direct.get('greeting'), 'hello');
});

test('delays what passes, and keeps the order', async (t) => {
  const { proxy, client } = await setUp(t);
  proxy.delay(50, { jitter: 30 });
  const start = performance.now();
  const answers = await Promise.all([1, 2, 3].map((number) => client.incrby('sum', number)));
  assert.deepEqual(answers, [1, 3, 6]);
  assert.ok(performance.now() - start >= 100, 'there and back');
});

test('slices what passes into single bytes', async (t) => {
  const { proxy, client } = await setUp(t);
  proxy.slice(1);
  assert.equal(await client.get('greeting'), 'hello');
});

test('replaces and truncates a reply', async (t) => {
  const { proxy, client } = await setUp(t);
  proxy.corruptNext('-ERR never sent by redis\r\n');
  await assert.rejects(client.get('greeting'), /never sent by redis/);
  proxy.truncateNext(3);
  await assert.rejects(client.get('greeting'));
  assert.equal(await until(() => client.get('greeting'), { what: 'an answer' }), 'hello');
});

test('drops one reply after its command has run', async (t) => {
  const { proxy, client, direct } = await setUp(t);
  const dropped = proxy.dropReply(/incr/i);
  await assert.rejects(client.incr('count'));
  await dropped;
  assert.equal(await direct.get('count'), '1');
  await until(() => client.incr('count'), { what: 'the next answer' });
});

test('holds a request back until the client has reconnected', async (t) => {
  const { proxy, client, direct } = await setUp(t);
  const held = proxy.holdRequest(/late/);
  await assert.rejects(client.set('late', 'yes'));
  await held.caught;
  await until(() => client.get('greeting'), { what: 'an answer on a new connection' });
  assert.equal(await direct.get('late'), null);
  held.deliver();
  await until(() => direct.get('late'), { what: 'the late write' });
});

test('refuses new connections, and accepts them again on the same port', async (t) => {
  const { proxy, client } = await setUp(t);
  const { port } = proxy;
  await proxy.refuse();
  assert.equal(await client.get('greeting'), 'hello', 'an open connection stays');
  const refused = new Promise((resolve) => client.once('error', resolve));
  proxy.cut();
  assert.equal((await refused).code, 'ECONNREFUSED');
  await proxy.accept();
  assert.equal(proxy.port, port);
  assert.equal(await until(() => client.get('greeting'), { what: 'an answer' }), 'hello');
});
