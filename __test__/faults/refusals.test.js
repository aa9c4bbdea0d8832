// Refusals: the errors of redis, and what each call does: wait and retry, fail with a typed error and redis's message, or
// fail at once.
'use strict';

const assert = require('node:assert/strict');
const { randomBytes } = require('node:crypto');
const fs = require('node:fs');
const path = require('node:path');
const { test } = require('node:test');
const { commandCalls } = require('../support/commands');
const { patient, wait, ran, passed, refusals } = require('../support/faults');
const { makeReservation, ask, askError, keepLog, keepLosses } = require('../support/reservation');
const { startServer } = require('../support/server');
const { until, within } = require('../support/wait');

const key = 'reservation-job';

/** A holder, and another instance whose calls have `limit` ms. */
async function setUp(t, { interval = 200, ttl = 20, limit = 600, args } = {}) {
  const server = await startServer(t, { args });
  const client = server.client();
  const log = keepLog();
  const holder = makeReservation(t, server, { interval, ttl, log });
  const other = makeReservation(t, server, { ttl: 20, options: { command_timeout: limit } });
  const losses = keepLosses(holder);
  await holder.lock('held');
  await ran(client, 'pexpire', 1);
  return { server, client, log, holder, other, losses };
}

/** The refusal of a lock, which must come after the whole limit. */
async function refusedInTheEnd(reservation, code, limit = 600) {
  const start = performance.now();
  const error = await within(
    20000,
    askError((done) => reservation.lock('job', done)),
  );
  assert.equal(error.code, 'ERR_REDIS_REPLY', error.message);
  assert.match(error.message, new RegExp(`${code} `), "redis's own words");
  // The last pause is skipped if it would outlast the limit.
  assert.ok(performance.now() - start >= limit - 300, `retried: ${performance.now() - start} ms`);
  assert.equal(reservation.held, false);
  return error;
}

async function stillRenewed(client, holder, losses) {
  await ran(client, 'pexpire', 2);
  assert.deepEqual([holder.held, losses], [true, []]);
}

test('LOADING: a lock waits and retries, and never answers "held"', async (t) => {
  const { server, client, holder, other, losses } = await setUp(t);
  if (/redis_version:6/.test(await client.info('server'))) return t.skip('redis 6.2 answers only every 2 MB');
  const pipeline = client.pipeline();
  for (let index = 0; index < 80; index += 1) pipeline.set(`filler ${index}`, randomBytes(2000));
  await pipeline.exec();
  const args = ['--key-load-delay', '50000', '--loading-process-events-interval-bytes', '1024'];
  await server.restart({ data: true, args, ready: 'answer' });
  const eager = server.client({ enableReadyCheck: false }); // a client that does not wait for the end of loading
  const isLoading = async () => (await eager.info('persistence')).includes('\nloading:1\r');
  assert.ok(await isLoading());
  const waiting = wait(t, other, 'waited for');
  await refusedInTheEnd(other, 'LOADING');
  assert.equal(holder.held, true);
  assert.ok(await isLoading(), 'it took longer than all that');
  const slow = makeReservation(t, server, { ttl: 60, options: { command_timeout: 20000 } });
  assert.equal(await within(20000, slow.lock('slow')), true);
  assert.equal(await within(20000, waiting), 'reservation-waited for');
  return stillRenewed(client, holder, losses);
});

test('BUSY: renewal is retried until the deadline, then the lock is lost; a wait outlasts it', async (t) => {
  const { server, client, holder, other, losses } = await setUp(t, { ttl: 4 });
  await client.config('SET', 'lua-time-limit', '100');
  const patientHolder = makeReservation(t, server, { interval: 200, ttl: 60 });
  const patientLosses = keepLosses(patientHolder);
  await patientHolder.lock('kept');
  const released = makeReservation(t, server, { ttl: 60, options: { command_timeout: 500 } });
  await released.lock('released');
  const script = server.client().call('EVAL', 'while true do end', '0');
  script.catch(() => {});
  const start = performance.now();
  await until(async () => (await client.ping().catch(({ message }) => message)).startsWith('BUSY'), {
    ...patient,
    what: 'BUSY',
  });
  await refusedInTheEnd(other, 'BUSY');
  const error = await askError((done) => released.release(done));
  assert.equal(error.code, 'ERR_REDIS_REPLY');
  assert.deepEqual([holder.held, losses], [true, []]);
  const waiting = wait(t, other, 'job');
  await until(() => losses.length > 0, { ...patient, what: 'the loss' });
  assert.ok(performance.now() - start >= 3500, 'not before the deadline');
  assert.equal(holder.held, false);
  await client.script('KILL');
  assert.equal(await within(20000, waiting), key);
  await ran(client, 'pexpire', 2);
  assert.deepEqual([patientHolder.held, patientLosses], [true, []]);
  assert.deepEqual(await ask((done) => released.release(done)), [null, 1]);
  await until(async () => !(await client.exists('reservation-held')), {
    ...patient,
    what: 'the end of the lost key',
  });
  assert.equal(losses.length, 1);
});

test('OOM: a lock is refused at once; held locks are renewed and released', async (t) => {
  const { server, client, holder, other, losses } = await setUp(t, { limit: 5000 });
  await client.config('SET', 'maxmemory', '1');
  const start = performance.now();
  const error = await askError((done) => other.lock('job', done));
  assert.equal(error.code, 'ERR_REDIS_REPLY');
  assert.match(error.message, /OOM command not allowed when used memory > 'maxmemory'/);
  assert.ok(
    error.message.includes(key) && error.message.includes(`${server.host}:${server.port}`),
    error.message,
  );
  assert.ok(performance.now() - start < 2000, 'at once');
  await stillRenewed(client, holder, losses);
  await holder.ensure_reservation();
  assert.deepEqual(await ask((done) => holder.release(done)), [null, 1]);
  assert.equal(await client.exists('reservation-held'), 0);
});

test('OOM: a release succeeds, also with a waiter in this process', async (t) => {
  const { server, client, holder, losses } = await setUp(t);
  const waiter = makeReservation(t, server);
  const waiting = wait(t, waiter, 'held');
  await until(async () => (await commandCalls(client)).set >= 2, { ...patient, what: 'a try' });
  await client.config('SET', 'maxmemory', '1');
  assert.deepEqual(await ask((done) => holder.release(done)), [null, 1]);
  await client.config('SET', 'maxmemory', '0');
  assert.equal(await within(20000, waiting), 'reservation-held');
  assert.deepEqual(losses, []);
});

test('OOM: 10,000 waiters retry in turns, and all at once as soon as one succeeds', async (t) => {
  const { server, client } = await setUp(t);
  const waiter = makeReservation(t, server);
  const refused = async () =>
    Number(/errorstat_OOM:count=(\d+)/.exec(await client.info('errorstats'))?.[1] ?? 0);
  await client.config('SET', 'maxmemory', '1');
  const waiting = Array.from({ length: 10000 }, (_, number) => wait(t, waiter, `one-${number}`));
  await until(async () => (await refused()) >= 10000, { ...patient, what: 'the refusal of each' });
  // By then each has paused for the longest time.
  await new Promise((resolve) => setTimeout(resolve, 500));
  const before = await refused();
  await new Promise((resolve) => setTimeout(resolve, 2000));
  const count = (await refused()) - before;
  assert.ok(count > 0 && count < 12000, `${count} refusals in two seconds`);
  await client.config('SET', 'maxmemory', '0');
  // One by one, they would take ten seconds.
  await within(8000, Promise.all(waiting));
  assert.equal(await waiter.release(), 10000);
});

test('NOPERM: many leases that are refused for good do not delay the next try of a short one', async (t) => {
  const { server, client, holder, losses } = await setUp(t, { interval: 1000, ttl: 3 });
  const many = makeReservation(t, server, { interval: 400, ttl: 600 });
  const count = 20000;
  await Promise.all(Array.from({ length: count }, (_, number) => many.lock(`forbidden ${number}`)));
  await client.acl('SETUSER', 'default', 'resetkeys', '~reservation-held');
  await until(async () => (await refusals(client, 'NOPERM')) >= count, { ...patient, what: 'all refused' });
  const before = await refusals(client, 'NOREPLICAS');
  await client.config('SET', 'min-replicas-to-write', 1);
  const refused = async () => (await refusals(client, 'NOREPLICAS')) > before;
  await until(refused, { ...patient, what: 'the renewal that is refused for a moment' });
  await client.config('SET', 'min-replicas-to-write', 0);
  // At the pace of the others, it would be tried after ten seconds, seven after its end.
  await ran(client, 'pexpire', 3);
  assert.deepEqual([holder.held, losses], [true, []]);
  await client.acl('SETUSER', 'default', 'allkeys');
  assert.equal(await many.release(), count);
});

test('eviction: the lock is lost at the next renewal', async (t) => {
  const { client, holder, losses } = await setUp(t, { interval: 700, ttl: 600 });
  await client.config('SET', 'maxmemory-policy', 'volatile-ttl');
  await client.config('SET', 'maxmemory', '1');
  await until(async () => !(await client.exists('reservation-held')), { ...patient, what: 'the eviction' });
  await until(() => losses.length > 0, { timeout: 5000, what: 'the loss' });
  assert.equal(losses[0].code, 'ERR_RESERVATION_LOST');
  assert.deepEqual([holder.held, await holder.release(), losses.length], [false, 0, 1]);
});

test('MISCONF: a lock gets a typed error; renewals and releases are retried until it is over', async (t) => {
  const { server, client, holder, other, losses, log } = await setUp(t);
  const released = makeReservation(t, server, { ttl: 60, options: { command_timeout: 15000 } });
  await released.lock('released');
  await client.config('SET', 'save', '3600 1000000');
  const dump = path.join(server.dir, 'dump.rdb');
  fs.mkdirSync(path.join(dump, 'in the way'), { recursive: true });
  await client.bgsave();
  await until(async () => (await client.info('persistence')).includes('rdb_last_bgsave_status:err'), {
    ...patient,
    what: 'the failed save',
  });
  await refusedInTheEnd(other, 'MISCONF');
  const waiting = wait(t, other, 'job');
  const releasing = released.release();
  await until(async () => log.of('expire-set-failed').length > 0, {
    ...patient,
    what: 'a line that says so',
  });
  const before = await refusals(client, 'MISCONF');
  await until(async () => (await refusals(client, 'MISCONF')) >= before + 10, {
    ...patient,
    what: 'retries',
  });
  assert.match(log.of('expire-set-failed')[0].err, /^Error: .*MISCONF/);
  assert.deepEqual([holder.held, losses], [true, []]);
  fs.rmSync(dump, { recursive: true });
  await client.bgsave();
  assert.equal(await within(20000, waiting), key);
  assert.equal(await within(20000, releasing), 1);
  await stillRenewed(client, holder, losses);
});

test('NOREPLICAS: a lock gets a typed error; waits and renewals are retried', async (t) => {
  const { client, holder, other, losses } = await setUp(t);
  await client.config('SET', 'min-replicas-to-write', '1');
  await refusedInTheEnd(other, 'NOREPLICAS');
  const waiting = wait(t, other, 'job');
  await until(async () => (await refusals(client, 'NOREPLICAS')) > 20, { ...patient, what: 'retries' });
  assert.equal(holder.held, true);
  await client.config('SET', 'min-replicas-to-write', '0');
  assert.equal(await within(20000, waiting), key);
  await stillRenewed(client, holder, losses);
});

for (const [title, stale, refusal, renewal] of [
  ['READONLY', 'yes', 'READONLY', 'READONLY'],
  ['MASTERDOWN', 'no', '(READONLY|MASTERDOWN)', 'MASTERDOWN'],
]) {
  test(`${title}: a held lock is unknown, not lost, until its deadline`, async (t) => {
    const { server, client, holder, other, losses } = await setUp(t, { ttl: 3 });
    const lasting = makeReservation(t, server, { interval: 200, ttl: 60 });
    const lastingLosses = keepLosses(lasting);
    await lasting.lock('lasting');
    await client.config('SET', 'replica-serve-stale-data', stale);
    const before = await refusals(client, renewal);
    await client.replicaof('127.0.0.1', '1');
    const start = performance.now();
    await refusedInTheEnd(other, refusal);
    const waiting = wait(t, other, 'job');
    await passed(start, 1800);
    assert.deepEqual([holder.held, losses], [true, []], 'unknown is not lost');
    assert.ok((await refusals(client, renewal)) > before + 2, 'renewals are tried again');
    await until(() => losses.length > 0, { ...patient, what: 'the loss' });
    const after = performance.now() - start;
    assert.ok(after >= 2500 && after < 5000, `at the deadline: ${after} ms`);
    await client.replicaof('NO', 'ONE');
    assert.equal(await within(20000, waiting), key);
    await ran(client, 'pexpire', 2);
    assert.deepEqual([lasting.held, lastingLosses, losses.length], [true, [], 1]);
    await until(async () => !(await client.exists('reservation-held')), { ...patient, what: 'a free key' });
  });
}

test('NOSCRIPT: a forgotten script is sent again, and callers notice nothing', async (t) => {
  const { client, holder, log, losses } = await setUp(t);
  for (let round = 0; round < 3; round += 1) {
    await client.script('FLUSH');
    await stillRenewed(client, holder, losses);
    await client.script('FLUSH');
    await holder.ensure_reservation();
    await client.script('FLUSH');
    assert.equal(await holder.release(), 1);
    assert.equal(await holder.lock('held'), true);
  }
  assert.deepEqual(
    log.events.filter(({ level }) => level !== 'info'),
    [],
  );
});

test('maxclients: a typed error, pauses between tries, and success when there is room again', async (t) => {
  const { server, client, holder, losses } = await setUp(t, { ttl: 60 });
  const [, maxclients] = await client.config('GET', 'maxclients');
  await client.config('SET', 'maxclients', '1');
  await client.client('KILL', 'TYPE', 'normal');
  const start = performance.now();
  const rejected = async () => Number(/rejected_connections:(\d+)/.exec(await client.info('stats'))[1]);
  const fresh = makeReservation(t, server, { password: 'unused, so that it is an endpoint of its own' });
  const seen = [];
  for (let round = 0; round < 3; round += 1) {
    for (const call of [(done) => holder.lock('job', done), (done) => fresh.lock('job', done)]) {
      const error = await within(10000, askError(call));
      assert.match(error.code, /^ERR_REDIS_(REPLY|CONNECTION)$/);
      seen.push(error);
    }
  }
  // The server closes at once, so its message is sometimes lost, but not each time.
  const told = seen.filter(({ message }) => /ERR max number of clients reached/.test(message));
  assert.ok(told.length > 0, seen.map(String).join('\n'));
  for (const error of told) assert.ok(error.message.includes(`${server.host}:${server.port}`), error.message);
  const rate = (await rejected()) / ((performance.now() - start) / 1000);
  assert.ok(rate < 60, `${rate} attempts a second`);
  assert.deepEqual([holder.held, losses], [true, []]);
  await client.config('SET', 'maxclients', maxclients);
  await stillRenewed(client, holder, losses);
  assert.equal(await within(20000, fresh.lock('job')), true);
});

test('keys of another type and keys without a ttl are held; a wait polls them', async (t) => {
  const { client, other } = await setUp(t);
  await client.rpush('reservation-list', 'x');
  await client.set('reservation-eternal', 'somebody');
  for (const name of ['list', 'eternal']) {
    assert.deepEqual(await ask((done) => other.lock(name, done)), [null, false]);
    const waiting = wait(t, other, name);
    const { set } = await commandCalls(client);
    await until(async () => (await commandCalls(client)).set >= set + 2, { ...patient, what: 'polls' });
    assert.equal(other.is_held(name), false);
    await client.del(`reservation-${name}`);
    assert.equal(await within(20000, waiting), `reservation-${name}`);
  }
});
