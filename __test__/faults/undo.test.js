// Undos after calls that failed: of a SET that may have run, of a lost lease. They succeed where possible. Elsewhere they are
// tried at a bounded rate, and end with the ttl.
'use strict';

const assert = require('node:assert/strict');
const { once } = require('node:events');
const net = require('node:net');
const { test } = require('node:test');
const { commandCalls } = require('../support/commands');
const { patient, passed, ran, refusals } = require('../support/faults');
const { startProxy } = require('../support/proxy');
const { makeReservation, ask, askError, keepLosses } = require('../support/reservation');
const { startServer } = require('../support/server');
const { until, within } = require('../support/wait');

const count = 1000;

/** How long there must be no try. The longest pause between two tries is a quarter of a second. */
const silence = 1500;

/** Hangs up on every connection at this port, and counts them. */
async function hangUp(t, server) {
  const door = { count: 0 };
  const listener = net.createServer((socket) => {
    door.count += 1;
    socket.on('error', () => {});
    socket.destroy();
  });
  t.after(() => listener.close());
  listener.listen(server.port, server.host);
  await once(listener, 'listening');
  return door;
}

async function connections(client) {
  return Number(/total_connections_received:(\d+)/.exec(await client.info('stats'))[1]);
}

/** How many commands the server got, with refused ones, without those of the counting. */
async function traffic(client) {
  const text = await client.info('commandstats');
  let sum = 0;
  for (const [, name, calls, , , refused] of text.matchAll(
    /^cmdstat_([^:]+):calls=(\d+),usec=(\d+),usec_per_call=([\d.]+)(?:,rejected_calls=(\d+))?/gm,
  )) {
    if (name !== 'info') sum += Number(calls) + Number(refused || 0);
  }
  return sum;
}

/** The ways in which a server is gone for good during an undo. The keys have a ttl of a second. */
const departures = {
  'a lock that was lost': async (t, server) => {
    const reservation = makeReservation(t, server, { interval: 200, ttl: 1 });
    const losses = keepLosses(reservation);
    await reservation.lock('job');
    await server.kill();
    await until(() => losses.length > 0, { ...patient, what: 'the loss' });
  },
  'a lock that was not answered': async (t, server) => {
    const reservation = makeReservation(t, server, { interval: 200, ttl: 1 });
    await reservation.lock('warm-up');
    await reservation.release();
    server.pause();
    const error = await askError((done) => reservation.lock('job', done));
    assert.equal(error.code, 'ERR_REDIS_TIMEOUT');
    await server.kill();
  },
  'a wait that was not answered': async (t, server) => {
    const reservation = makeReservation(t, server, { interval: 200, ttl: 1 });
    await reservation.lock('warm-up');
    await reservation.release();
    server.pause();
    const error = await askError((done) => reservation.wait_until_lock('job', { timeout: 100 }, done));
    assert.equal(error.code, 'ERR_RESERVATION_TIMEOUT');
    await server.kill();
  },
  'a wait that was given up in the outage': async (t, server) => {
    const reservation = makeReservation(t, server, { interval: 200, ttl: 1 });
    await server.command('SET', 'reservation-job', 'other');
    const controller = new AbortController();
    const waiting = reservation.wait_until_lock('job', { signal: controller.signal });
    const timed = reservation.wait_until_lock('job', { timeout: 1000 });
    const client = server.client();
    await until(async () => (await commandCalls(client)).get >= 1, { ...patient, what: 'a look' });
    client.disconnect(); // it would reconnect, too
    await server.kill();
    controller.abort();
    await assert.rejects(waiting, { name: 'AbortError' });
    await assert.rejects(timed, { code: 'ERR_RESERVATION_TIMEOUT' });
  },
};

for (const [what, leave] of Object.entries(departures)) {
  test(`${what}, and its server is gone for good: no connection is made after the ttl`, async (t) => {
    const server = await startServer(t);
    await leave(t, server);
    await passed(performance.now(), 1500);
    const door = await hangUp(t, server);
    await passed(performance.now(), silence);
    assert.equal(door.count, 0);
  });
}

test('the password has changed before the undo: no login is tried after the ttl', async (t) => {
  const server = await startServer(t);
  const reservation = makeReservation(t, server, { interval: 200, ttl: 1, password: 'first' });
  await reservation.lock('warm-up');
  await reservation.release();
  const client = server.client({ password: undefined });
  await client.ping();
  server.pause();
  await askError((done) => reservation.lock('job', done));
  server.resume();
  await client
    .pipeline()
    .config('SET', 'requirepass', 'second')
    .client('KILL', 'TYPE', 'normal', 'SKIPME', 'yes')
    .exec();
  await passed(performance.now(), 1500);
  const before = await connections(client);
  await passed(performance.now(), silence);
  assert.equal(await connections(client), before);
});

test('many locks are lost on a demoted server: no undo is tried after their ttl', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  const reservation = makeReservation(t, server, { ttl: 2 });
  const losses = keepLosses(reservation);
  await Promise.all(Array.from({ length: count }, (_, index) => reservation.lock(`job ${index}`)));
  await client.replicaof('127.0.0.1', '1');
  await until(() => losses.length === count, { ...patient, what: 'the losses' });
  await passed(performance.now(), 2500);
  const before = [await traffic(client), await connections(client)];
  await passed(performance.now(), silence);
  const after = [await traffic(client), await connections(client)];
  const [commands, connects] = after.map((now, index) => now - before[index]);
  assert.ok(commands < 20 && connects < 3, `${commands} commands, ${connects} connections`);
});

/** Locks and waits that a stopped server does not answer. It runs their SETs when it goes on. */
async function giveUpMany(server, reservation) {
  await reservation.lock('warm-up');
  await reservation.release();
  server.pause();
  const failures = await Promise.all([
    ...Array.from({ length: count / 2 }, (_, index) =>
      askError((done) => reservation.lock(`a ${index}`, done)),
    ),
    ...Array.from({ length: count / 2 }, (_, index) =>
      askError((done) => reservation.wait_until_lock(`b ${index}`, { timeout: 50 }, done)),
    ),
  ]);
  server.resume();
  return new Set(failures.map(({ code }) => code));
}

test('many calls without an answer: their keys are deleted in batches, by one command each', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  const reservation = makeReservation(t, server, {
    ttl: 600,
    interval: 60000,
    options: { command_timeout: 500 },
  });
  const codes = await giveUpMany(server, reservation);
  assert.ok(codes.has('ERR_REDIS_TIMEOUT') && codes.has('ERR_RESERVATION_TIMEOUT'), `${[...codes]}`);
  const start = performance.now();
  // It runs the commands in its sockets before it answers this.
  await until(async () => (await commandCalls(client)).evalsha > 1, { ...patient, what: 'the first' });
  await until(async () => (await client.dbsize()) === 0, { timeout: 60000, what: 'no keys' });
  const seconds = (performance.now() - start) / 1000;
  const calls = await commandCalls(client);
  assert.ok(calls.evalsha <= count * 1.2 + 10, `${calls.evalsha} commands`);
  assert.ok(calls.evalsha / (seconds + 1) <= 1100, `${calls.evalsha} in ${seconds} s`);
  if ('client|info' in calls)
    assert.ok((calls['client|kill'] || 0) <= 3, `${calls['client|kill']} CLIENT KILL`);
});

for (const [what, args, prepare, settings] of [
  [
    'an ACL',
    [],
    (client) => client.acl('SETUSER', 'worker', 'on', '>pw', '~*', '+@all', '-eval', '-evalsha'),
    { password: 'pw', options: { username: 'worker', command_timeout: 500 } },
  ],
  [
    'a server without scripts',
    ['--rename-command', 'EVALSHA', '', '--rename-command', 'EVAL', ''],
    () => {},
    { options: { command_timeout: 500 } },
  ],
]) {
  test(`undos are refused by ${what}: each is tried only once`, async (t) => {
    const server = await startServer(t, { args });
    const client = server.client();
    await prepare(client);
    const reservation = makeReservation(t, server, { ttl: 600, interval: Infinity, ...settings });
    reservation.on('lost', () => {});
    await reservation.lock('warm-up');
    server.pause();
    const several = 100;
    const failures = await Promise.all(
      Array.from({ length: several }, (_, index) =>
        askError((done) => reservation.lock(`job ${index}`, done)),
      ),
    );
    assert.ok(failures.every(({ code }) => code === 'ERR_REDIS_TIMEOUT' || code === 'ERR_REDIS_CONNECTION'));
    server.resume();
    const refused = async () => {
      const stats = await client.info('commandstats');
      const found = /^cmdstat_evalsha:.*rejected_calls=(\d+)/m.exec(stats);
      // An unknown command has no such line.
      return found ? Number(found[1]) : refusals(client, 'ERR');
    };
    await until(async () => (await refused()) >= several, { ...patient, what: 'a refusal of each' });
    await passed(performance.now(), silence / 2);
    // A call whose connection was closed has looked up its SET before that. Handshakes send commands, too.
    const all = await refused();
    assert.ok(all <= 2 * several + 10, `${all} refusals`);
    await passed(performance.now(), silence / 2);
    assert.equal(await refused(), all, 'and no more');
  });
}

test('a value that redis does not accept breaks the connection once, and has no undo', async (t) => {
  const server = await startServer(t, { args: ['--proto-max-bulk-len', '1mb'] });
  const client = server.client();
  const reservation = makeReservation(t, server, { ttl: 20, interval: 300 });
  const losses = keepLosses(reservation);
  await reservation.lock('job');
  const before = await connections(client);
  const long = 'x'.repeat(3 << 20);
  const error = await within(
    20000,
    askError((done) => reservation.lock(long, done)),
  );
  assert.match(error.code, /^ERR_REDIS_(CONNECTION|REPLY)$/);
  await ran(client, 'evalsha', 4); // so many heartbeats
  assert.ok((await connections(client)) - before <= 2, 'at most one more, and that of this look');
  assert.deepEqual([reservation.held, losses], [true, []]);
  assert.deepEqual(await ask((done) => reservation.release(done)), [null, 1]);
});

test('undos are at most 1,000 a second, also where the answers come too late', async (t) => {
  const server = await startServer(t);
  const proxy = await startProxy(t, server);
  const client = server.client();
  const options = { command_timeout: 200 };
  const reservation = makeReservation(t, proxy, { ttl: 600, interval: Infinity, options });
  await reservation.lock('warm-up');
  await reservation.release();
  proxy.delay(400, { direction: 'down' });
  await Promise.all(
    Array.from({ length: count }, (_, index) => askError((done) => reservation.lock(`job ${index}`, done))),
  );
  const [{ evalsha }, start] = [await commandCalls(client), performance.now()];
  await passed(start, 2500);
  const rate = ((await commandCalls(client)).evalsha - evalsha) / ((performance.now() - start) / 1000);
  assert.ok(rate <= 1100, `${rate} a second`);
  proxy.heal();
  await until(async () => (await client.dbsize()) === 0, { ...patient, what: 'no keys' });
});
