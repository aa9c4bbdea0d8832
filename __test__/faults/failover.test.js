// Servers that change their role: a failover of a pair and back, a demotion to the replica of a foreign server, an
// asynchronous failover that forgets. The answers of a demoted server prove nothing.
'use strict';

const assert = require('node:assert/strict');
const { test } = require('node:test');
const { commandCalls } = require('../support/commands');
const { patient, wait, ran, passed, refusals } = require('../support/faults');
const { startProxy } = require('../support/proxy');
const { makeReservation, askError, keepLosses } = require('../support/reservation');
const { startServer } = require('../support/server');
const { until, within } = require('../support/wait');

const key = 'reservation-job';

const isInSync = async (replica) => /master_link_status:up/.test(await replica.info('replication'));

/** A server with a replica that is in sync. */
async function startPair(t) {
  const args = ['--repl-diskless-sync-delay', '0', '--repl-ping-replica-period', '1'];
  const [first, second] = await Promise.all([startServer(t, { args }), startServer(t, { args })]);
  const [one, two] = [first.client(), second.client()];
  await two.replicaof(first.host, first.port);
  await until(() => isInSync(two), { ...patient, what: 'the replica' });
  return { first, second, one, two };
}

test('a failover and back: held locks are unknown meanwhile, and kept', async (t) => {
  const { first, second, one, two } = await startPair(t);
  const holder = makeReservation(t, first, { interval: 200, ttl: 20 });
  const losses = keepLosses(holder);
  await holder.lock('job');
  await ran(one, 'pexpire', 1);
  await until(() => two.exists(key), { ...patient, what: 'its copy' });
  const waiting = wait(t, makeReservation(t, first), 'job');

  await two.replicaof('NO', 'ONE');
  await one.replicaof(second.host, second.port);
  await until(() => isInSync(one), { ...patient, what: 'the demotion' });
  const before = await refusals(one, 'READONLY');
  await until(async () => (await refusals(one, 'READONLY')) >= before + 3, { ...patient, what: 'refusals' });
  assert.deepEqual([holder.held, losses], [true, []]);
  const error = await within(
    20000,
    askError((done) => makeReservation(t, first, { options: { command_timeout: 500 } }).lock('other', done)),
  );
  assert.deepEqual([error.code, /READONLY/.test(error.message)], ['ERR_REDIS_REPLY', true]);

  await one.replicaof('NO', 'ONE');
  await ran(one, 'pexpire', 2);
  assert.deepEqual([holder.held, losses], [true, []]);
  assert.equal(await holder.release(), 1);
  assert.equal(await within(20000, waiting), key);
});

test('the address leads to the new master, and the old one closes no connection: READONLY makes the client leave it', async (t) => {
  const { first, second, one, two } = await startPair(t);
  const proxy = await startProxy(t, first);
  const holder = makeReservation(t, proxy, { interval: 200, ttl: 20 });
  const losses = keepLosses(holder);
  await holder.lock('job');
  await until(() => two.exists(key), { ...patient, what: 'its copy' });
  const waiting = wait(t, makeReservation(t, proxy), 'job');

  await two.replicaof('NO', 'ONE');
  proxy.target = second; // for new connections
  await two.pexpire(key, 15000); // only a renewal there leaves more than this
  await one.replicaof(second.host, second.port);
  await until(async () => (await two.pttl(key)) > 15000, {
    timeout: 10000,
    what: 'a renewal on the new server',
  });
  assert.equal(proxy.accepted, 2, 'over one more connection');
  assert.deepEqual([holder.held, losses], [true, []]);
  assert.equal(await holder.release(), 1);
  assert.equal(await within(20000, waiting), key);
  assert.equal(await two.exists(key), 1);
});

test('a server is demoted to the replica of an empty one: held locks are unknown until the deadline, then lost', async (t) => {
  const server = await startServer(t);
  const stranger = await startServer(t, { args: ['--repl-diskless-sync-delay', '0'] });
  const client = server.client();
  const options = { command_timeout: 500 };
  const [holder, lasting] = [3, 60].map((ttl) => makeReservation(t, server, { interval: 200, ttl, options }));
  const losses = [holder, lasting].map(keepLosses);
  await holder.lock('job');
  await lasting.lock('lasting');
  await ran(client, 'pexpire', 2);
  const start = performance.now();
  await client.replicaof(stranger.host, stranger.port);
  await until(async () => (await isInSync(client)) && !(await client.exists(key)), {
    ...patient,
    what: 'the demotion',
  });
  const gone = performance.now() - start;
  assert.ok(gone < 2000, `in time for what is to be seen: ${gone} ms`);
  await passed(start, 2200);
  assert.deepEqual([holder.held, lasting.held, losses], [true, true, [[], []]], 'a replica is no authority');
  await until(() => losses[0].length > 0, { ...patient, what: 'the loss' });
  const after = performance.now() - start;
  assert.ok(after >= 2500 && after < 5000, `at the deadline: ${after} ms`);
  const failing = makeReservation(t, server, { ttl: 60, options });
  assert.match(
    String(
      await within(
        20000,
        failing.lock('other').catch((error) => error),
      ),
    ),
    /READONLY/,
  );
  assert.match(
    String(
      await within(
        20000,
        lasting.release().catch((error) => error),
      ),
    ),
    /READONLY/,
  );
  // After its promotion its answers count: a key that it does not have is lost, or was released.
  await client.replicaof('NO', 'ONE');
  const error = await within(
    20000,
    askError((done) => lasting.release(done)),
  );
  assert.equal(error.code, 'ERR_RESERVATION_LOST');
  assert.deepEqual(
    losses.map((list) => list.length),
    [1, 0],
  );
});

test('a failover that forgets: the loss is reported at the first renewal on the new server', async (t) => {
  const { first, second, one, two } = await startPair(t);
  const holder = makeReservation(t, first, { interval: 200, ttl: 20 });
  const losses = keepLosses(holder);
  // The replica never gets the key: its link is cut before.
  await two.replicaof('NO', 'ONE');
  await holder.lock('job');
  await ran(one, 'pexpire', 1);
  await first.kill();
  await second.kill();
  // The address now leads to the former replica.
  second.port = first.port;
  await second.start();
  await until(() => losses.length > 0, { ...patient, what: 'the loss' });
  assert.match(losses[0].message, new RegExp(` lost reservation for ${key}$`));
  assert.deepEqual([holder.held, await holder.release()], [false, 0]);
  assert.equal(await holder.lock('job'), true);
  assert.equal(await second.command('EXISTS', key), 1);
});

test('the reply of a SET is lost, and the server is a replica when the result is looked up: not acquired', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  const proxy = await startProxy(t, server);
  const reservation = makeReservation(t, proxy, { ttl: 20 });
  await reservation.lock('warm-up');
  await reservation.release();
  proxy.stall('down');
  const locking = askError((done) => reservation.lock('job', done));
  await until(() => client.exists(key), { what: 'the SET' });
  await client.replicaof('127.0.0.1', 1);
  proxy.cut();
  proxy.heal();
  const error = await within(30000, locking);
  assert.equal(error.code, 'ERR_REDIS_REPLY');
  assert.match(error.message, /READONLY/);
  assert.equal(reservation.held, false);
  await client.replicaof('NO', 'ONE');
  await until(async () => !(await client.exists(key)), {
    ...patient,
    what: 'the end of the key that nobody holds',
  });
});

test('thousands of locks on a server that is demoted: renewals are at most 1,000 a second, and none is lost', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  const count = 5000;
  const holder = makeReservation(t, server, { interval: 1000, ttl: 20 });
  const losses = keepLosses(holder);
  const names = Array.from({ length: count }, (_, index) => `job ${index}`);
  for (let index = 0; index < count; index += 1000) {
    await Promise.all(names.slice(index, index + 1000).map((name) => holder.lock(name)));
  }
  await client.replicaof('127.0.0.1', '1');
  // Each may be refused once.
  await until(async () => (await refusals(client, 'READONLY')) > 100, { ...patient, what: 'refusals' });
  await passed(performance.now(), 1500);
  const [before, start] = [(await commandCalls(client)).evalsha, performance.now()];
  await passed(start, 2500);
  const rate = ((await commandCalls(client)).evalsha - before) / ((performance.now() - start) / 1000);
  assert.ok(rate <= 2200, `${rate} renewals a second`);
  assert.ok(rate > 2, 'it is tried again and again');

  const { pexpire = 0 } = await commandCalls(client);
  await client.replicaof('NO', 'ONE');
  await until(async () => ((await commandCalls(client)).pexpire || 0) >= pexpire + count, {
    timeout: 8000,
    what: 'a renewal of each',
  });
  assert.deepEqual([holder.held, losses], [true, []]);
  assert.equal(await client.dbsize(), count);
  assert.equal(await holder.release(), count);
});

test('thousands of locks, and the connection is killed: a few are validated first, then all others at once', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  const count = 3000;
  const holder = makeReservation(t, server, { interval: 300000, ttl: 600 });
  const losses = keepLosses(holder);
  await Promise.all(Array.from({ length: count }, (_, index) => holder.lock(`job ${index}`)));
  for (let round = 1; round <= 2; round += 1) {
    await client.client('KILL', 'TYPE', 'normal');
    // Spread out, as on a server that refuses them, they would take three seconds.
    const start = performance.now();
    await until(async () => (await commandCalls(client)).pexpire >= count * round, {
      ...patient,
      what: 'all',
    });
    t.diagnostic(`${Math.round(performance.now() - start)} ms`);
  }
  assert.equal((await commandCalls(client)).pexpire, count * 2, 'once each');
  assert.deepEqual([holder.held, losses], [true, []]);
});
