// lock(): its answers, and what other clients of redis see.
'use strict';

const assert = require('node:assert/strict');
const { test } = require('node:test');
const { startChild } = require('./support/child');
const { ReserveResource, makeReservation, ask } = require('./support/reservation');
const { startServer } = require('./support/server');

test('the callback gets (null, true), once, after the call has returned', async (t) => {
  const server = await startServer(t);
  const reservation = makeReservation(t, server);
  assert.deepEqual(await ask((done) => reservation.lock('job', done)), [null, true]);
  assert.equal(await server.client().exists('reservation-job'), 1);
  // The connection is up: the answer is faster, but still asynchronous, and one for each call.
  const names = Array.from({ length: 50 }, (_, index) => `job ${index}`);
  const answers = await Promise.all(names.map((name) => ask((done) => reservation.lock(name, done))));
  assert.deepEqual(
    answers,
    names.map(() => [null, true]),
  );
});

test('a held key answers (null, false), and stays as it is', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  const reservation = makeReservation(t, server);
  const locked = (name) => ask((done) => reservation.lock(name, done));

  await reservation.lock('own');
  const own = await client.get('reservation-own');
  assert.deepEqual(await locked('own'), [null, false], 'held by this instance');
  assert.equal(await client.get('reservation-own'), own);
  assert.equal(reservation.held, true);

  await makeReservation(t, server).lock('neighbour');
  assert.deepEqual(await locked('neighbour'), [null, false], 'held by another instance of this process');

  await client.set('reservation-foreign', 'other-1', 'EX', 30);
  assert.deepEqual(await locked('foreign'), [null, false], 'held by another client');
  assert.equal(await client.get('reservation-foreign'), 'other-1');

  await client.set('reservation-eternal', 'other-1');
  assert.deepEqual(await locked('eternal'), [null, false], 'a key without a ttl');
  assert.equal(await client.pttl('reservation-eternal'), -1);

  await client.rpush('reservation-list', 'other-1');
  assert.deepEqual(await locked('list'), [null, false], 'a key of another type');
  assert.equal(await client.type('reservation-list'), 'list');
});

test('without a callback the promise gives true or false', async (t) => {
  const server = await startServer(t);
  const [first, second] = [makeReservation(t, server), makeReservation(t, server)];
  const promise = first.lock('job');
  assert.ok(promise instanceof Promise);
  assert.strictEqual(await promise, true);
  assert.strictEqual(await second.lock('job'), false);
  assert.strictEqual(await second.release(), 0);
  assert.strictEqual(await first.release(), 1);
  assert.strictEqual(await second.lock('job'), true);
});

test('of many simultaneous locks, exactly one succeeds', async (t) => {
  const server = await startServer(t);
  const tries = Array.from({ length: 40 }, () => makeReservation(t, server).lock('job'));
  const got = await Promise.all(tries);
  assert.equal(got.filter(Boolean).length, 1);
});

test('key, value and ttl as another client sees them', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  const reservation = makeReservation(t, server, { by: 'worker.name', ttl: 30 });
  await reservation.lock('nightly-report');
  assert.deepEqual(await client.keys('*'), ['reservation-nightly-report'], 'no helper keys');
  assert.equal(await client.type('reservation-nightly-report'), 'string');
  const value = await client.get('reservation-nightly-report');
  assert.match(value, new RegExp(`^worker\\.name-${process.pid}-[0-9a-f]{32}$`));
  assert.equal(reservation._reserve_val, value);
  within(await client.pttl('reservation-nightly-report'), 20000, 30000);
});

test('the ttl is in seconds: a number, a numeric string or a fraction', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  for (const [ttl, most] of [
    [20, 20000],
    ['20', 20000],
    [10.25, 10250],
    ['10.25', 10250],
    [86400 * 365, 86400 * 365 * 1000],
  ]) {
    const reservation = makeReservation(t, server, { ttl });
    await reservation.lock('job');
    within(await client.pttl('reservation-job'), most - 5000, most);
    await reservation.release();
  }
});

test('the identifier is JOB_ID, read at construction', async (t) => {
  const server = await startServer(t);
  const former = process.env.JOB_ID;
  process.env.JOB_ID = 'job-4711';
  t.after(() => {
    if (former === undefined) delete process.env.JOB_ID;
    else process.env.JOB_ID = former;
  });
  const reservation = makeReservation(t, server, { by: 'me' });
  delete process.env.JOB_ID;
  assert.equal(reservation.identifier, 'job-4711');
  assert.equal(new ReserveResource('me').identifier, process.pid);
  await reservation.lock('job');
  assert.match(await server.client().get('reservation-job'), /^me-job-4711-[0-9a-f]{32}$/);
});

test('each acquisition has a token of its own', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  const seen = new Set();
  const [one, other] = [makeReservation(t, server), makeReservation(t, server)];
  for (let round = 0; round < 20; round += 1) {
    for (const reservation of [one, other]) {
      await reservation.lock('job');
      seen.add(await client.get('reservation-job'));
      await reservation.release();
    }
  }
  assert.equal(seen.size, 40);
});

test('the token distinguishes two processes with the same name and JOB_ID', async (t) => {
  const server = await startServer(t);
  const code = `
    const ReserveResource = require('./index.js');
    const reservation = new ReserveResource('same', process.env.REDIS_HOST, process.env.REDIS_PORT, 1000, 30, false);
    reservation.lock('job-' + process.argv[1]).then(() => process.send({ value: reservation._reserve_val }));`;
  const start = (name) =>
    startChild(t, { code }, { args: [name], env: { ...server.environment, JOB_ID: '1' } }).message();
  const [a, b] = await Promise.all([start('a'), start('b')]);
  for (const { value } of [a, b]) assert.match(value, /^same-1-[0-9a-f]{32}$/);
  assert.notEqual(a.value, b.value);
});

test('every kind of resource with a meaningful text is accepted', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  const objectId = { id: 1, toString: () => '507f1f77bcf86cd799439011' };
  for (const [resource, name] of [
    ['nightly-report', 'nightly-report'],
    ['with spaces, a\nnewline and a\ttab', 'with spaces, a\nnewline and a\ttab'],
    ['nul\0inside', 'nul\0inside'],
    ['日本語 ünïcödé 🔒', '日本語 ünïcödé 🔒'],
    ['*{}$[]"\'\\', '*{}$[]"\'\\'],
    ['x'.repeat(100000), 'x'.repeat(100000)],
    [42, '42'],
    [0, '0'],
    [-1.5, '-1.5'],
    [12345678901234567890n, '12345678901234567890'],
    [Buffer.from('büffer'), 'büffer'],
    [['a', 'b'], 'a,b'],
    [objectId, '507f1f77bcf86cd799439011'],
    [new String('boxed'), 'boxed'],
  ]) {
    const reservation = makeReservation(t, server);
    assert.equal(await reservation.lock(resource), true, name.slice(0, 40));
    assert.deepEqual(await client.keysBuffer('*'), [Buffer.from(`reservation-${name}`)]);
    assert.equal(reservation._reserve_key, `reservation-${name}`);
    assert.equal(reservation.is_held(resource), true);
    assert.equal(await reservation.release(resource), 1);
    assert.equal(await client.dbsize(), 0);
  }
});

test('_reserve_key and _reserve_val are those of the newest held lock', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  const reservation = makeReservation(t, server);
  const names = () => [reservation._reserve_key, reservation._reserve_val];
  assert.equal('_reserve_key' in reservation || '_reserve_val' in reservation, false);

  const atCallback = await new Promise((resolve) => reservation.lock('a', () => resolve(names())));
  assert.deepEqual(atCallback, ['reservation-a', await client.get('reservation-a')]);
  await reservation.lock('b');
  assert.deepEqual(names(), ['reservation-b', await client.get('reservation-b')]);
  await reservation.lock('c');
  await reservation.release('b');
  assert.deepEqual(names(), ['reservation-c', await client.get('reservation-c')]);
  await reservation.release('c');
  assert.deepEqual(names(), ['reservation-a', await client.get('reservation-a')]);

  const gone = await new Promise((resolve) => {
    reservation.release(() => resolve(['_reserve_key' in reservation, '_reserve_val' in reservation]));
  });
  assert.deepEqual(gone, [false, false]);
});

test('a failed lock leaves no _reserve_key and _reserve_val', async (t) => {
  const server = await startServer(t);
  const reservation = makeReservation(t, server);
  await server.client().set('reservation-job', 'other');
  assert.equal(await reservation.lock('job'), false);
  assert.equal('_reserve_key' in reservation || '_reserve_val' in reservation, false);
  assert.equal(reservation.held, false);
  assert.equal(reservation.signal, undefined);
});

test('held, is_held and signal last from the acquisition to the release', async (t) => {
  const server = await startServer(t);
  const reservation = makeReservation(t, server);
  assert.deepEqual(
    [reservation.held, reservation.is_held('a'), reservation.signal],
    [false, false, undefined],
  );
  const atCallback = await new Promise((resolve) => {
    reservation.lock('a', () =>
      resolve([reservation.held, reservation.is_held('a'), reservation.is_held('b')]),
    );
  });
  assert.deepEqual(atCallback, [true, true, false]);
  const { signal } = reservation;
  assert.ok(signal instanceof AbortSignal);
  await reservation.lock('b');
  assert.equal(reservation.signal, signal, 'one for the whole period');
  await reservation.release();
  assert.deepEqual(
    [reservation.held, reservation.is_held('a'), reservation.signal],
    [false, false, undefined],
  );
  assert.equal(signal.aborted, false, 'a release is no loss');
  await reservation.lock('a');
  assert.notEqual(reservation.signal, signal, 'another period, another signal');
});

test('a callback that throws is an uncaught exception, and other calls are answered', async (t) => {
  const server = await startServer(t);
  const code = `
    const ReserveResource = require('./index.js');
    const make = () => new ReserveResource('me', process.env.REDIS_HOST, process.env.REDIS_PORT, 1000, 30, false);
    const seen = [];
    process.on('uncaughtException', (error) => seen.push(error.message));
    const answered = [1, 2, 3].map((number) => new Promise((resolve) => make().lock('job ' + number, () => {
      resolve();
      throw new Error('thrown by caller ' + number);
    })));
    Promise.all(answered).then(() => make().lock('job 4')).then((got) => process.send({ seen, got }));`;
  const { seen, got } = await startChild(t, { code }, { env: server.environment }).message();
  assert.deepEqual(
    seen.sort(),
    [1, 2, 3].map((number) => `thrown by caller ${number}`),
  );
  assert.equal(got, true);
});

function within(value, least, most) {
  assert.ok(value > least && value <= most, `${value} is not in (${least}, ${most}]`);
}
