// Loss: how it is found, that it is reported exactly once and to whom, and that the instance can be used afterwards.
'use strict';

const assert = require('node:assert/strict');
const { test } = require('node:test');
const { startChild } = require('./support/child');
const { commandCalls } = require('./support/commands');
const {
  ReserveResource,
  makeReservation,
  ask,
  askError,
  keepLog,
  keepLosses,
} = require('./support/reservation');
const { startServer } = require('./support/server');
const { until } = require('./support/wait');

const key = 'reservation-job';

/** The ways in which a reservation is lost, and the message of each. */
const ways = {
  stolen: [
    (client) => client.set(key, 'thief-1', 'EX', 600),
    (val) => `Worker ${val} lost ${key} to thief-1`,
  ],
  lapsed: [(client) => client.pexpire(key, 1), (val) => `Worker ${val} lost reservation for ${key}`],
  deleted: [(client) => client.del(key), (val) => `Worker ${val} lost reservation for ${key}`],
  flushed: [(client) => client.flushall(), (val) => `Worker ${val} lost reservation for ${key}`],
  retyped: [
    (client) => client.multi().del(key).rpush(key, 'x').exec(),
    (val) => `Worker ${val} lost reservation for ${key}`,
  ],
};

for (const [way, [take, sentence]] of Object.entries(ways)) {
  test(`${way}: a listener gets it, once, and the instance can lock again`, async (t) => {
    const server = await startServer(t);
    const client = server.client();
    const log = keepLog();
    const reservation = makeReservation(t, server, { interval: 200, log });
    const losses = keepLosses(reservation);
    const heldWhenTold = [];
    reservation.on('lost', () => heldWhenTold.push(reservation.held));
    await reservation.lock('job');
    const { _reserve_val: val, signal } = reservation;
    await take(client);
    await until(() => losses.length > 0, { what: 'the loss' });
    const [error] = losses;
    assert.ok(error instanceof ReserveResource.ReservationError);
    assert.equal(error.code, 'ERR_RESERVATION_LOST');
    assert.equal(error.message, sentence(val));
    assert.deepEqual([signal.aborted, signal.reason], [true, error]);
    assert.deepEqual(heldWhenTold, [false]);
    assert.deepEqual(
      [reservation.held, reservation.is_held('job'), reservation.signal],
      [false, false, signal],
    );
    assert.equal(reservation._lost_reservation, true);
    assert.equal('_reserve_key' in reservation || '_reserve_val' in reservation, false);
    const lines = log.of('reservation-lost').map(({ level, key: name, val: value }) => [level, name, value]);
    assert.deepEqual(lines, [['error', key, val]]);
    assert.deepEqual(await ask((done) => reservation.release(done)), [null, 0], 'already told');
    assert.equal(
      (await askError((done) => reservation.ensure_reservation(done))).code,
      'ERR_RESERVATION_NOT_HELD',
    );

    await client.del(key);
    assert.equal(await reservation.lock('job'), true);
    assert.equal(reservation.held, true);
    assert.equal(reservation.signal.aborted, false);
    // The new lock is renewed, and the old loss is not reported again.
    const before = log.of('reservation-extended').length;
    await until(() => log.of('reservation-extended').length >= before + 3, { what: 'renewals' });
    assert.equal(losses.length, 1);
    assert.equal(await reservation.release(), 1);
  });

  test(`${way}: without a listener it is an uncaught exception`, async (t) => {
    const server = await startServer(t);
    const code = `
      const ReserveResource = require('./index.js');
      const { REDIS_HOST, REDIS_PORT, CATCH } = process.env;
      const reservation = new ReserveResource('me', REDIS_HOST, REDIS_PORT, 200, 30, false);
      if (CATCH) {
        process.on('uncaughtException', ({ message, code }) => process.send({ message, code, held: reservation.held }));
        process.on('message', () => reservation.release((...args) => process.send({ args })));
      }
      reservation.lock('job', () => process.send({ val: reservation._reserve_val }));
      setInterval(() => {}, 1000);`;
    const crashing = startChild(t, { code }, { env: server.environment });
    const { val } = await crashing.message();
    await take(server.client());
    assert.equal((await crashing.exit()).code, 1);
    assert.ok(crashing.stderr.includes(`Error: ${sentence(val)}`), crashing.stderr);

    await server.client().flushall();
    const catching = startChild(t, { code }, { env: { ...server.environment, CATCH: '1' } });
    const second = await catching.message();
    await take(server.client());
    assert.deepEqual(await catching.message(), {
      message: sentence(second.val),
      code: 'ERR_RESERVATION_LOST',
      held: false,
    });
    catching.send('release');
    assert.deepEqual(await catching.message(), { args: [null, 0] });
    assert.equal(catching.messages.all.length, 3, 'told once');
  });
}

test('a release called in the callback right after a loss reports the loss: nothing is thrown', async (t) => {
  const server = await startServer(t);
  const code = `
    const ReserveResource = require('./index.js');
    const make = (interval) =>
      new ReserveResource('me', process.env.REDIS_HOST, process.env.REDIS_PORT, interval, 30, false);
    const busy = (ms) => { for (const end = Date.now() + ms; Date.now() < end; ); };
    const [lost, other] = [make(500), make(20000)];
    process.on('uncaughtException', ({ code }) => process.send({ uncaught: code }));
    process.on('message', () => {
      // The renewal finds the loss and the other lock is acquired before this turn ends, so both are delivered at once.
      busy(1500);
      other.lock('other', () =>
        lost.release((error, value) => process.send({ code: error && error.code, lost: error && error.lost, value })));
      busy(300);
    });
    lost.lock('job', () => process.send('locked'));`;
  const child = startChild(t, { code }, { env: server.environment });
  await child.message();
  await server.client().del(key);
  child.send('go');
  assert.deepEqual(await child.message(), { code: 'ERR_RESERVATION_LOST', lost: [key] });
  await until(() => server.client().exists('reservation-other'));
  child.send('again');
  assert.deepEqual(await child.message(), { code: null, lost: null, value: 0 }, 'told once');
});

test('redis restarts without its data: the loss is reported once, and the key is never set again', async (t) => {
  const server = await startServer(t);
  const reservation = makeReservation(t, server, { interval: 200 });
  const losses = keepLosses(reservation);
  await reservation.lock('job');
  await server.restart();
  await until(() => losses.length > 0, { what: 'the loss' });
  assert.match(losses[0].message, /^Worker worker-\d+-[0-9a-f]{32} lost reservation for reservation-job$/);
  const client = server.client();
  assert.equal(await client.exists(key), 0);
  assert.equal(await reservation.lock('other'), true);
  assert.equal(await client.exists(key), 0);
  assert.equal(losses.length, 1);
});

test('an outage until the deadline is a loss, whatever redis answers later', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  const reservation = makeReservation(t, server, { interval: 300, ttl: 1.5 });
  const losses = keepLosses(reservation);
  const start = performance.now();
  await reservation.lock('job');
  const { signal } = reservation;
  server.pause();
  await until(() => losses.length > 0, { what: 'the loss' });
  assert.ok(performance.now() - start >= 1400, 'not before the deadline');
  assert.deepEqual([reservation.held, signal.reason], [false, losses[0]]);
  server.resume();
  // Redis may still run what was sent meanwhile, but no key may stay that nobody holds.
  await until(async () => !(await client.exists(key)), { what: 'a free key' });
  assert.equal(await reservation.lock('job'), true);
  assert.equal(losses.length, 1);
});

test('after a stop longer than its lease, held is false before any other code of the process runs', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  const code = `
    const ReserveResource = require('./index.js');
    const reservation = new ReserveResource('me', process.env.REDIS_HOST, process.env.REDIS_PORT, 300, 2, false);
    let losses = 0;
    reservation.on('lost', () => { losses += 1; process.send({ losses }); });
    reservation.lock('job', () => {
      let last = Date.now();
      process.send({ held: reservation.held });
      // A busy loop, so that this code runs first after the stop.
      setInterval(() => {
        const { held } = reservation;
        const now = Date.now();
        if (now - last > 1500) process.send({ stopped: true, held });
        last = now;
      }, 1);
    });`;
  const child = startChild(t, { code }, { env: server.environment });
  assert.deepEqual(await child.message(), { held: true });
  child.pause();
  await until(async () => !(await client.exists(key)), { what: 'a free key' });
  await client.set(key, 'thief-1');
  child.resume();
  assert.deepEqual(await child.message({ stopped: true }), { stopped: true, held: false });
  await until(() => child.messages.all.some(({ losses }) => losses === 1), { what: 'the loss' });
  assert.equal(await client.get(key), 'thief-1');
});

test('while the event loop is blocked, held shows a loss before any callback', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  const reservation = makeReservation(t, server, { interval: 100 });
  const losses = keepLosses(reservation);
  await reservation.lock('job');
  await client.del(key);
  const end = performance.now() + 5000;
  while (reservation.held && performance.now() < end);
  assert.equal(reservation.held, false);
  assert.deepEqual(losses, [], 'the loop was blocked all the time');
  await until(() => losses.length > 0, { what: 'the loss' });
});

test('of several locks, the lost one is reported and the others are kept', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  const log = keepLog();
  const reservation = makeReservation(t, server, { interval: 200, log });
  const losses = keepLosses(reservation);
  await reservation.lock('kept');
  await reservation.lock('job');
  const { signal } = reservation;
  await client.del(key);
  await until(() => losses.length > 0, { what: 'the loss' });
  assert.deepEqual([reservation.is_held('kept'), reservation.is_held('job')], [true, false]);
  assert.equal(reservation._reserve_key, 'reservation-kept');
  assert.equal(signal.reason, losses[0]);
  assert.equal(reservation.signal, signal, 'the period goes on until nothing is held');
  const before = log.of('reservation-extended').length;
  await until(() => log.of('reservation-extended').length >= before + 2, { what: 'renewals' });
  assert.deepEqual(await ask((done) => reservation.release(done)), [null, 1]);
  assert.equal(losses.length, 1);
});

test('several losses at once are reported one by one', async (t) => {
  const server = await startServer(t);
  const reservation = makeReservation(t, server, { interval: 200 });
  const losses = keepLosses(reservation);
  const names = Array.from({ length: 20 }, (_, index) => `job ${index}`);
  await Promise.all(names.map((name) => reservation.lock(name)));
  const { signal } = reservation;
  await server.client().flushall();
  await until(() => losses.length >= names.length, { what: 'all losses' });
  assert.deepEqual(
    new Set(losses.map((error) => error.key)),
    new Set(names.map((name) => `reservation-${name}`)),
  );
  assert.deepEqual([signal.aborted, reservation.signal], [true, signal]);
  assert.deepEqual(await ask((done) => reservation.release(done)), [null, 0]);
  assert.equal(losses.length, names.length);
});

test('ensure_reservation distinguishes a held lock, a lost lock and no lock', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  const reservation = makeReservation(t, server, { interval: Infinity });
  const losses = keepLosses(reservation);
  const renew = (done) => reservation.ensure_reservation(done);
  const nothing = await askError(renew);
  assert.equal(nothing.code, 'ERR_RESERVATION_NOT_HELD');
  assert.ok(nothing instanceof ReserveResource.ReservationError);
  await assert.rejects(reservation._ensure_reservation(), { code: 'ERR_RESERVATION_NOT_HELD' });

  await reservation.lock('job');
  await client.pexpire(key, 5000);
  assert.deepEqual(await ask(renew), [null]);
  assert.ok((await client.pttl(key)) > 20000, 'renewed now');
  assert.equal(await reservation.ensure_reservation(), undefined);

  const { _reserve_val: val, signal } = reservation;
  await client.set(key, 'thief-1');
  const error = await askError(renew);
  assert.equal(error.code, 'ERR_RESERVATION_LOST');
  assert.equal(error.message, `Worker ${val} lost ${key} to thief-1`);
  assert.deepEqual([reservation.held, signal.reason], [false, error]);
  assert.deepEqual(await ask((done) => reservation.release(done)), [null, 0]);
  assert.equal((await askError(renew)).code, 'ERR_RESERVATION_NOT_HELD');
  assert.deepEqual(losses, [], 'told by the callback, so by nobody else');
  assert.equal(await client.get(key), 'thief-1');
});

test('ensure_reservation renews all locks, and reports the first failure', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  const reservation = makeReservation(t, server);
  for (const name of ['a', 'job', 'z']) await reservation.lock(name);
  for (const name of ['a', 'z']) await client.pexpire(`reservation-${name}`, 5000);
  await client.del(key);
  const error = await askError((done) => reservation.ensure_reservation(done));
  assert.equal(error.code, 'ERR_RESERVATION_LOST');
  assert.ok(error.message.endsWith(`lost reservation for ${key}`), error.message);
  for (const name of ['a', 'z']) assert.ok((await client.pttl(`reservation-${name}`)) > 20000, name);
  assert.deepEqual(
    ['a', 'job', 'z'].map((name) => reservation.is_held(name)),
    [true, false, true],
  );
});

test('an interval of the ttl or more: one warning, and the lease ends silently at its deadline', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  const log = keepLog();
  const heard = makeReservation(t, server, { interval: 5000, ttl: 1, log });
  const losses = keepLosses(heard);
  const start = performance.now();
  await heard.lock('heard');
  const { signal } = heard;
  await until(() => losses.length > 0, { what: 'the loss' });
  assert.ok(performance.now() - start >= 900, 'at its deadline');
  assert.equal(losses[0].code, 'ERR_RESERVATION_LOST');
  assert.deepEqual([heard.held, signal.reason], [false, losses[0]]);
  assert.deepEqual(await ask((done) => heard.release(done)), [null, 0], 'told by the listener');
  assert.equal((await commandCalls(client)).pexpire, undefined, 'never renewed');
  heard.lock_ttl = 2; // still shorter than the interval
  await until(async () => await heard.lock('heard'), { what: 'a second lock' });
  const warnings = log.events.filter(({ level }) => level === 'warning');
  assert.equal(warnings.length, 1, JSON.stringify(warnings));
});

test('a lease that is never renewed throws nothing at its end without a listener; a later release reports it', async (t) => {
  const server = await startServer(t);
  const code = `
    const ReserveResource = require('./index.js');
    const { REDIS_HOST, REDIS_PORT } = process.env;
    const reservation = new ReserveResource('me', REDIS_HOST, REDIS_PORT, 5000, 1, false);
    reservation.lock('job', () => {
      const { signal } = reservation;
      const timer = setInterval(() => {
        if (!signal.aborted) return;
        clearInterval(timer);
        const told = { held: reservation.held, reason: signal.reason.code };
        reservation.release((error) => process.send({ ...told, code: error && error.code, lost: error && error.lost }, () => {
          reservation.release((...args) => process.send({ args }, () => process.disconnect()));
        }));
      }, 5);
    });`;
  const child = startChild(t, { code }, { env: server.environment });
  assert.deepEqual(await child.message(), {
    held: false,
    reason: 'ERR_RESERVATION_LOST',
    code: 'ERR_RESERVATION_LOST',
    lost: [key],
  });
  assert.deepEqual(await child.message(), { args: [null, 0] });
  assert.deepEqual(await child.exit(), { code: 0, signal: null });
  assert.equal(child.stderr, '');
});

test('max_hold ends the renewals, and the loss is reported', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  const reservation = makeReservation(t, server, { interval: 200, ttl: 2, options: { max_hold: 3000 } });
  const losses = keepLosses(reservation);
  const start = performance.now();
  await reservation.lock('job');
  await until(() => losses.length > 0, { timeout: 10000, what: 'the loss' });
  const passed = performance.now() - start;
  assert.ok(passed >= 2950, `not before: ${passed}`);
  assert.ok((await commandCalls(client)).pexpire >= 5, 'renewed until then');
  assert.equal(losses[0].code, 'ERR_RESERVATION_LOST');
  assert.equal(reservation.held, false);
  await until(async () => !(await client.exists(key)), { what: 'a free key' });
  assert.equal(losses.length, 1);
});

test('max_hold counts while the event loop is blocked', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  const code = `
    const ReserveResource = require('./index.js');
    const { REDIS_HOST, REDIS_PORT } = process.env;
    const reservation = new ReserveResource('me', REDIS_HOST, REDIS_PORT, 200, 2, false, '', { max_hold: 1000 });
    reservation.on('lost', ({ code }) => process.send({ code }));
    reservation.lock('job', () => {
      process.send({ held: reservation.held }, () => {
        const buffer = new Int32Array(new SharedArrayBuffer(4));
        Atomics.wait(buffer, 0, 0, 60000); // blocked until it is killed
      });
    });`;
  const child = startChild(t, { code }, { env: server.environment });
  assert.deepEqual(await child.message(), { held: true });
  await until(async () => !(await client.exists(key)), { what: 'a free key' });
  assert.equal(child.ended, undefined, 'it still hangs');
});

test('a name with invalid Unicode is lost like any other', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  const reservation = makeReservation(t, server, { interval: 200 });
  const losses = keepLosses(reservation);
  assert.equal(await reservation.lock('half \ud83d a pair'), true);
  await client.flushall();
  await until(() => losses.length > 0, { what: 'the loss' });
  assert.equal(reservation.signal.aborted, true);
  assert.equal('_reserve_key' in reservation, false);
});
