// Locations of redis: unix sockets, IPv6, URLs, numbered databases; and the name and protocol of a connection.
'use strict';

const assert = require('node:assert/strict');
const os = require('node:os');
const path = require('node:path');
const { test } = require('node:test');
const { ran } = require('../support/faults');
const { keepLog } = require('../support/reservation');
const { connections, cut, errorOf, reserve, resp3, wakeUp } = require('./support/looks');
const { startNode } = require('./support/node');
const { startUnixServer } = require('./support/unix-server');

const hasIPv6 = Object.values(os.networkInterfaces())
  .flat()
  .some(({ address }) => address === '::1');

const withoutIPv6 = !hasIPv6 && 'this machine has no ::1';

/** Less than 0.9 s, which is when a waiter polls. */
const promptly = 700;

/** Reservations whose location is only in `host`, without a port. */
function at(t, host, options, settings) {
  return reserve(t, {}, options, { host, port: null, password: '', ...settings });
}

test('a unix socket by its path and by a URL is one endpoint', async (t) => {
  const server = await startUnixServer(t);
  const client = server.client();
  const hosts = [server.socketPath, `unix://${server.socketPath}`, `unix://${server.socketPath}?db=0`];
  const reservations = hosts.map((host) => at(t, host, {}, { interval: 100 }));
  // A port that is set in every environment does no harm.
  reservations.push(at(t, server.socketPath, {}, { interval: 100, port: 6379 }));
  for (const [index, reservation] of reservations.entries()) {
    assert.equal(await reservation.lock(`job ${index}`), true);
  }
  const [{ resp, addr }, ...others] = await connections(server);
  assert.deepEqual([resp, others.length], [await resp3(server), 0]);
  assert.ok(addr.replace('[', '').startsWith(`${server.socketPath}:`), addr); // Valkey adds brackets
  assert.ok((await wakeUp(server, reservations[1], 'woken')) < promptly);
  await ran(client, 'pexpire', 2);
  await cut(server);
  await ran(client, 'pexpire', 2);
  for (const [index, reservation] of reservations.entries()) {
    assert.equal(reservation.held, true);
    assert.equal(await reservation.release(), index === 1 ? 2 : 1);
  }
});

test('a unix socket with a password and a database, by options and by the URL', async (t) => {
  const server = await startUnixServer(t, { password: 'p@ss/word' });
  const { socketPath } = server;
  const secret = encodeURIComponent(server.password);
  const forms = [
    [socketPath, { db: 2 }, server.password],
    [`unix://${socketPath}?db=2`, {}, server.password],
    [`unix://:${secret}@${socketPath}?db=2`, {}, ''],
    [`unix://${socketPath}?db=2&password=${secret}`, {}, ''],
  ];
  for (const [index, [host, options, password]] of forms.entries()) {
    const reservation = at(t, host, options, { password });
    assert.equal(await reservation.lock(`job ${index}`), true, host);
  }
  assert.equal(await server.client({ db: 2 }).dbsize(), forms.length);
  assert.equal((await connections(server)).length, 1);
});

test('a missing socket: the error names its path', async (t) => {
  const server = await startUnixServer(t);
  const missing = path.join(server.dir, 'none.sock');
  const error = await errorOf(at(t, missing).lock('job'));
  assert.equal(error.code, 'ERR_REDIS_CONNECTION');
  assert.equal(error.message, `Redis connection to ${missing} failed - connect ENOENT ${missing}`);
  assert.equal(error.cause.code, 'ENOENT');
});

test('IPv6: ::1, with brackets or without, and in a URL', { skip: withoutIPv6 }, async (t) => {
  const server = await startNode(t);
  const { port } = server;
  const places = [
    ['::1', port],
    ['[::1]', port],
    [`redis://[::1]:${port}`, null],
  ];
  for (const [index, [host, number]] of places.entries()) {
    assert.equal(await at(t, host, {}, { port: number }).lock(`job ${index}`), true, host);
  }
  const [{ addr }, ...others] = await connections(server);
  assert.ok(addr.startsWith('[::1]:'), addr);
  assert.equal(others.length, 0, 'one endpoint');
  await server.kill();
  const error = await errorOf(at(t, '::1', {}, { port }).lock('job'));
  assert.ok(error.message.startsWith(`Redis connection to [::1]:${port} failed - `), error.message);
});

test('a URL with all parts is the same endpoint as separate arguments', async (t) => {
  const password = 'p@ss:w/rd?';
  const server = await startNode(t, { acl: { username: 'worker', password } });
  const { host, port } = server;
  const query = 'client_name=shop&protocol=3&key_prefix=shop-&connect_timeout=2000&command_timeout=1000';
  const options = { username: 'worker', db: 2, client_name: 'shop', protocol: 3, key_prefix: 'shop-' };
  for (const [index, scheme] of ['redis', 'valkey'].entries()) {
    const url = `${scheme}://worker:${encodeURIComponent(password)}@${host}:${port}/2?${query}`;
    assert.equal(await at(t, url).lock(`job ${index}`), true, scheme);
  }
  assert.equal(await reserve(t, server, options, { password }).lock('job 2'), true);
  const client = server.client({ db: 2 });
  assert.deepEqual((await client.keys('*')).sort(), ['shop-job 0', 'shop-job 1', 'shop-job 2']);
  const [{ user, db, resp }, ...others] = await connections(server, 'shop');
  assert.deepEqual([user, db, resp, others.length], ['worker', '2', await resp3(server), 0]);
  assert.equal((await connections(server)).length, 0, 'none by the usual name');
});

test('two databases share neither keys nor a connection', async (t) => {
  const server = await startNode(t);
  const [first, second] = [0, 2].map((db) => server.client({ db }));
  const reservations = [{}, { db: 2 }, { db: '2' }].map((options) => reserve(t, server, options));
  assert.equal(await reservations[1].lock('job'), true);
  assert.deepEqual([await first.dbsize(), await second.keys('*')], [0, ['reservation-job']]);
  assert.equal(await reservations[0].lock('job'), true, 'another database, another lock');
  assert.equal(await reservations[2].lock('job'), false, 'the same');
  assert.deepEqual((await connections(server)).map(({ db }) => db).sort(), ['0', '2']);
  // A deletion in one database does not wake waiters of the other.
  assert.ok((await wakeUp(server, reservations[2], 'other', { db: 2 })) < promptly);
  assert.equal(await reservations[1].release(), 1);
  assert.deepEqual([await first.exists('reservation-job'), await second.exists('reservation-job')], [1, 0]);
  await cut(server);
  assert.equal(await reservations[1].lock('again'), true);
  assert.equal(await second.exists('reservation-again'), 1, 'also over the next connection');
  const error = await errorOf(reserve(t, server, { db: 99 }).lock('job'));
  assert.equal(error.code, 'ERR_REDIS_REPLY');
  assert.match(error.message, /DB index is out of range/);
});

test('a connection has its client name in CLIENT LIST', async (t) => {
  const server = await startNode(t);
  for (const [index, options] of [{}, { client_name: null }, { client_name: 'shop:worker-1' }].entries()) {
    assert.equal(await reserve(t, server, options).lock(`job ${index}`), true);
  }
  assert.equal((await connections(server, 'redis-reservation')).length, 1);
  assert.equal((await connections(server, 'shop:worker-1')).length, 1);
  await cut(server, 'shop:worker-1');
  assert.equal(await reserve(t, server, { client_name: 'shop:worker-1' }).lock('again'), true);
  assert.equal((await connections(server, 'shop:worker-1')).length, 1, 'the next connection has it, too');
});

test('protocol is 3 by default; with 2 waiters poll, and one line says so', async (t) => {
  const server = await startNode(t);
  const three = await resp3(server);
  // Where the server does not show the protocol, only the number of connections is checked, and the behaviour of waiters.
  const spoken = async () => (await connections(server)).map(({ resp }) => resp).sort();
  const log = keepLog();
  const [usual, third] = [{}, { protocol: 3 }].map((options) => reserve(t, server, options, { log }));
  assert.ok((await wakeUp(server, usual, 'usual')) < promptly);
  assert.ok((await wakeUp(server, third, 'third')) < promptly);
  assert.deepEqual(await spoken(), [three, three]);
  assert.deepEqual(log.of('waiting-by-polling'), []);
  const polling = [2, '2'].map((protocol) => reserve(t, server, { protocol }, { log }));
  for (const [index, reservation] of polling.entries()) {
    const after = await wakeUp(server, reservation, `polled ${index}`);
    assert.ok(after > 300 && after < 3000, `${after} ms`);
  }
  assert.deepEqual(await spoken(), [three && '2', three, three]);
  const [{ reason, endpoint }, ...others] = log.of('waiting-by-polling');
  assert.match(reason, /RESP2/);
  assert.deepEqual([endpoint, others], [server.address, []]);
});

test('protocol: 3 is an error on a server without RESP3', async (t) => {
  const server = await startNode(t, { config: { 'rename-command': 'HELLO ""' } });
  assert.equal(await reserve(t, server, { protocol: 2 }).lock('job'), true);
  assert.equal(await reserve(t, server, {}).lock('other'), true, 'left out, it is');
  const error = await errorOf(reserve(t, server, { protocol: 3 }).lock('third'));
  assert.equal(error.code, 'ERR_REDIS_REPLY');
  assert.match(error.message, /HELLO/i);
});
