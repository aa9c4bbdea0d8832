// Connections: how soon and with which message they fail, and that they reconnect by themselves.
'use strict';

const assert = require('node:assert/strict');
const { once } = require('node:events');
const net = require('node:net');
const { test } = require('node:test');
const util = require('node:util');
const { startProxy } = require('./support/proxy');
const {
  ReserveResource,
  makeReservation,
  ask,
  askError,
  keepLog,
  keepLosses,
} = require('./support/reservation');
const { startServer, freePort } = require('./support/server');
const { until, within, atOnce } = require('./support/wait');

const killAll = (client) => client.client('KILL', 'TYPE', 'normal', 'SKIPME', 'yes');

/** The outcome of a call and how long it took. */
async function timed(work) {
  const start = performance.now();
  const value = await work();
  return { value, passed: performance.now() - start };
}

test('refused: connecting is retried for half a second, then the error has the message of 0.4.0', async (t) => {
  const port = await freePort();
  const log = keepLog();
  const reservation = makeReservation(t, { host: '127.0.0.1', port }, { log });
  const { value: error, passed } = await timed(() => askError((done) => reservation.lock('job', done)));
  assert.equal(
    error.message,
    `Redis connection to 127.0.0.1:${port} failed - connect ECONNREFUSED 127.0.0.1:${port}`,
  );
  assert.equal(error.code, 'ERR_REDIS_CONNECTION');
  assert.ok(
    error instanceof ReserveResource.RedisConnectionError &&
      error instanceof ReserveResource.ReservationError,
  );
  assert.ok(passed > 300 && passed < 2500, `${passed} ms`);
  const [line] = log.of('redis-error');
  assert.deepEqual(
    [line.level, line.host, line.port, line.err],
    ['error', '127.0.0.1', port, `Error: ${error.message}`],
  );
  await assert.rejects(reservation.lock('job'), { message: error.message });
});

test('a redis that starts within that time is reached, and the caller notices nothing', async (t) => {
  const server = await startServer(t);
  const proxy = await startProxy(t, server);
  await proxy.refuse();
  const start = performance.now();
  const locking = makeReservation(t, proxy).lock('job');
  await until(() => performance.now() - start >= 100, { what: 'a first refusal' });
  await proxy.accept();
  assert.equal(await locking, true);
});

test('an instance recovers when its redis starts later', async (t) => {
  const port = await freePort();
  const reservation = makeReservation(t, { host: '127.0.0.1', port });
  await assert.rejects(reservation.lock('job'), { code: 'ERR_REDIS_CONNECTION' });
  await startServer(t, { port });
  assert.equal(await reservation.lock('job'), true);
  assert.equal(await reservation.release(), 1);
});

test('a host that cannot be resolved is an error', async (t) => {
  const reservation = makeReservation(t, { host: 'no-such-host.invalid', port: 6380 });
  const error = await within(
    8000,
    askError((done) => reservation.lock('job', done)),
  );
  assert.equal(error.code, 'ERR_REDIS_CONNECTION');
  assert.match(
    error.message,
    /^Redis connection to no-such-host\.invalid:6380 failed - .*(ENOTFOUND|EAI_AGAIN)/,
  );
});

test('a name is resolved', async (t) => {
  const server = await startServer(t);
  const reservation = makeReservation(t, { host: 'localhost', port: server.port });
  assert.equal(await reservation.lock('job'), true);
});

test('a connect or a handshake that gets no answer ends after connect_timeout', async (t) => {
  const mute = net.createServer(() => {});
  mute.listen(0, '127.0.0.1');
  await once(mute, 'listening');
  t.after(() => mute.close());
  const target = { host: '127.0.0.1', port: mute.address().port };
  const options = { connect_timeout: 700 };
  const { value: error, passed } = await timed(() =>
    askError((done) => makeReservation(t, target, { options }).lock('job', done)),
  );
  assert.ok(['ERR_REDIS_CONNECTION', 'ERR_REDIS_TIMEOUT'].includes(error.code), error.code);
  assert.ok(error.message.includes(`127.0.0.1:${target.port}`), error.message);
  assert.ok(passed >= 650 && passed < 4000, `${passed} ms`);
});

test('a server that is no redis is an error, not a crash', async (t) => {
  for (const words of [
    'HTTP/1.1 400 Bad Request\r\n\r\n',
    '\x00\x01\x02',
    '$-5\r\n',
    ':1\r\n:2\r\n:3\r\n:4\r\n:5\r\n',
  ]) {
    const wrong = net.createServer((socket) => {
      socket.on('error', () => {});
      socket.on('data', () => socket.end(words));
    });
    wrong.listen(0, '127.0.0.1');
    await once(wrong, 'listening');
    t.after(() => wrong.close());
    const target = { host: '127.0.0.1', port: wrong.address().port };
    const reservation = makeReservation(t, target, {
      options: { connect_timeout: 1000, command_timeout: 500 },
    });
    const error = await within(
      8000,
      askError((done) => reservation.lock('job', done)),
    );
    assert.match(error.code, /^ERR_REDIS_/, words);
    assert.ok(error.message.includes(`127.0.0.1:${target.port}`), error.message);
  }
});

test('wrong, missing and unneeded passwords', async (t) => {
  const server = await startServer(t, { password: 'right' });
  const attempt = (password) =>
    askError((done) => makeReservation(t, server, { password }).lock('job', done));
  // What may still succeed is retried for 500 ms.
  const wrong = await atOnce(450, () => attempt('hunter2'));
  assert.match(wrong.message, /^Auth error: WRONGPASS /);
  assert.equal(wrong.code, 'ERR_REDIS_AUTH');
  assert.ok(wrong instanceof ReserveResource.RedisAuthError);
  assert.ok(wrong.message.includes(`${server.host}:${server.port}`), wrong.message);
  const missing = await attempt('');
  assert.equal(missing.code, 'ERR_REDIS_AUTH');
  assert.match(missing.message, /NOAUTH/);
  assert.equal(await makeReservation(t, server).lock('job'), true);

  const open = await startServer(t);
  assert.equal(await makeReservation(t, open, { password: 'not asked for' }).lock('job'), true);
});

test('a command that the user may not run is an error', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  const log = keepLog();
  const reservation = makeReservation(t, server, { interval: 300, ttl: 4, log });
  const losses = keepLosses(reservation);
  await reservation.lock('job');
  await client.acl('SETUSER', 'default', '-set');
  const error = await askError((done) => reservation.lock('other', done));
  assert.equal(error.code, 'ERR_REDIS_AUTH');
  assert.match(error.message, /NOPERM/);
  // Refused renewals are retried until the deadline, and logged.
  await client.acl('SETUSER', 'default', '-evalsha', '-eval');
  const refused = async () =>
    Number(/cmdstat_evalsha:.*rejected_calls=(\d+)/.exec(await client.info('commandstats'))[1]);
  await until(async () => (await refused()) >= 2, { what: 'refused renewals' });
  await until(() => log.of('expire-set-failed').length >= 1, { what: 'a line about it' });
  assert.match(log.of('expire-set-failed')[0].err, /NOPERM/);
  assert.equal((await reservation.release('job').catch((caught) => caught)).code, 'ERR_REDIS_AUTH');
  await client.acl('SETUSER', 'default', '+set', '+evalsha', '+eval');
  assert.equal(await reservation.release('job'), 1);
  assert.equal(await reservation.lock('other'), true);
  assert.deepEqual(losses, []);
});

test('callers notice nothing of CLIENT KILL', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  const reservation = makeReservation(t, server, { interval: 100 });
  const losses = keepLosses(reservation);
  await reservation.lock('held');
  for (let round = 0; round < 8; round += 1) {
    await killAll(client);
    assert.deepEqual(await ask((done) => reservation.lock('job', done)), [null, true]);
    await killAll(client);
    assert.deepEqual(await ask((done) => reservation.ensure_reservation(done)), [null]);
    await killAll(client);
    assert.deepEqual(await ask((done) => reservation.release('job', done)), [null, 1]);
  }
  assert.equal(await client.get('reservation-held'), reservation._reserve_val);
  assert.equal(reservation.held, true);
  assert.deepEqual(losses, []);
});

test('CLIENT KILL under load: every call succeeds', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  const reservation = makeReservation(t, server);
  await reservation.lock('warm-up');
  const names = Array.from({ length: 300 }, (_, index) => `job ${index}`);
  for (let round = 0; round < 5; round += 1) {
    const locking = Promise.all(names.map((name) => reservation.lock(name)));
    await killAll(client);
    assert.ok((await locking).every(Boolean), 'all are had');
    const releasing = Promise.all(names.map((name) => reservation.release(name)));
    await killAll(client);
    assert.ok(
      (await releasing).every((released) => released === 1),
      'all are released',
    );
    assert.equal(await client.dbsize(), 1);
  }
});

test('callers notice nothing of an idle connection that redis closed', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  const own = await client.client('ID');
  const others = async () =>
    (await client.client('LIST'))
      .match(/^id=\d+/gm)
      .map((text) => Number(text.slice(3)))
      .filter((id) => id !== own);
  const reservation = makeReservation(t, server, { interval: Infinity });
  const losses = keepLosses(reservation);
  await reservation.lock('job');
  const [first] = await others();
  assert.ok(first);
  await client.config('SET', 'timeout', '1');
  for (const work of [
    () => reservation.lock('other'),
    () => reservation.release().then((released) => released === 2),
    () => reservation.lock('job'),
  ]) {
    const before = await others();
    // It may reconnect by itself, to validate what is held.
    const gone = async () => (await others()).every((id) => !before.includes(id));
    await until(gone, { timeout: 10000, interval: 50, what: 'the idle end' });
    assert.equal(await work(), true);
  }
  assert.deepEqual(losses, []);
});

test('after a restart of redis, held locks are still held and new locks succeed', async (t) => {
  const server = await startServer(t);
  const log = keepLog();
  const reservation = makeReservation(t, server, { interval: 300, ttl: 6, log });
  const losses = keepLosses(reservation);
  await reservation.lock('job');
  const { _reserve_val: val } = reservation;
  await server.restart({ data: true, down: 1000 });
  const before = log.of('reservation-extended').length;
  await until(() => log.of('reservation-extended').length >= before + 2, { what: 'renewals' });
  assert.equal(await server.client().get('reservation-job'), val);
  assert.equal(await reservation.lock('other'), true);
  assert.equal(await reservation.release(), 2);
  assert.deepEqual(losses, []);
});

test('ensure_reservation is an error while redis is down; the lock is held until its deadline', async (t) => {
  const server = await startServer(t);
  const reservation = makeReservation(t, server, { interval: Infinity, ttl: 30 });
  await reservation.lock('job');
  await server.command('SAVE');
  await server.kill();
  const error = await askError((done) => reservation.ensure_reservation(done));
  assert.equal(error.code, 'ERR_REDIS_CONNECTION');
  assert.equal(reservation.held, true);
  await server.start();
  assert.deepEqual(await ask((done) => reservation.ensure_reservation(done)), [null]);
  assert.equal(await reservation.release(), 1);
});

test('redis hangs: ERR_REDIS_TIMEOUT within command_timeout, and no key stays', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  for (const [settings, limit] of [
    [{ options: { command_timeout: 400 } }, 400],
    [{ ttl: 1.5 }, 500], // a third of the ttl
    [{ ttl: 0.3, options: { command_timeout: 60000 } }, 300], // never above the ttl
  ]) {
    const reservation = makeReservation(t, server, { ...settings, interval: Infinity });
    await reservation.lock('warm-up');
    await reservation.release();
    server.pause();
    const { value: error, passed } = await timed(() => askError((done) => reservation.lock('job', done)));
    server.resume();
    assert.equal(error.code, 'ERR_REDIS_TIMEOUT', error.message);
    assert.ok(error.message.includes('reservation-job'), error.message);
    assert.ok(passed > limit * 0.9 && passed < limit + 1500, `${passed} ms instead of ${limit}`);
    assert.equal(reservation.held, false);
    // The SET runs when redis goes on. No caller holds it, so it is deleted long before its ttl of 30 s.
    await until(async () => !(await client.exists('reservation-job')), { what: 'a free key' });
    await until(() => reservation.lock('job'), { what: 'the lock' });
    assert.equal(await reservation.release().catch(() => 1), 1);
  }
});

test('a lost reply is never taken for the reply to a later call', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  const proxy = await startProxy(t, server);
  const log = keepLog();
  const settings = { interval: 300, ttl: 8, options: { command_timeout: 300 }, log };
  const reservation = makeReservation(t, proxy, settings);
  const losses = keepLosses(reservation);
  await reservation.lock('job');
  await client.set('reservation-taken', 'other');
  for (const direction of ['down', 'up', 'both']) {
    proxy.lose(direction);
    const failed = await askError((done) => reservation.lock('second', done));
    assert.match(failed.code, /^ERR_REDIS_(TIMEOUT|CONNECTION)$/);
    proxy.heal();
    await until(() => reservation.lock('third').catch(() => false), { what: 'a lock' });
    assert.equal(await reservation.lock('taken'), false);
    assert.equal(await reservation.lock('third'), false);
    assert.equal(await reservation.release('third'), 1);
    await until(async () => !(await client.exists('reservation-second')), {
      what: 'no trace of the failed one',
    });
    const before = log.of('reservation-extended').length;
    await until(() => log.of('reservation-extended').length > before, { what: 'a renewal' });
  }
  assert.deepEqual(losses, []);
  assert.equal(await reservation.release(), 1);
});

test('no message, error or log line contains the password', async (t) => {
  const server = await startServer(t, { password: 'right-hunter2' });
  const secrets = ['right-hunter2', 'wrong-hunter2'];
  const log = keepLog();
  const seen = [];
  for (const password of secrets) {
    const reservation = makeReservation(t, server, { password, log, by: 'me', interval: 100, ttl: 2 });
    seen.push(await reservation.lock('job').catch((error) => error));
    seen.push(await reservation.wait_until_lock('job', { timeout: 100 }).catch((error) => error));
    seen.push(reservation, reservation._redis, reservation.logger);
  }
  assert.equal(seen[0], true);
  await server.kill();
  await until(() => log.events.some(({ level }) => level === 'error'), { what: 'trouble' });
  const unreachable = makeReservation(t, server, { password: secrets[0], log });
  seen.push(await unreachable.lock('job').catch((error) => error));
  const texts = [
    ...seen.map((one) => util.inspect(one, { depth: Infinity, showHidden: true })),
    ...seen.map((one) => `${one && one.stack} ${JSON.stringify(one)}`),
    ...log.events.map((event) => JSON.stringify(event)),
  ];
  for (const text of texts) assert.ok(!text.includes('hunter2'), text);
});

test('a waiter with a short connect_timeout does not shorten the connect_timeout of others', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  const proxy = await startProxy(t, server);
  const patient = makeReservation(t, proxy);
  const hasty = makeReservation(t, proxy, { options: { connect_timeout: 100 } });
  await patient.lock('warm-up');
  await patient.release();
  await client.set('reservation-held', 'somebody');
  const waiting = hasty.wait_until_lock('held', { signal: t.signal }).catch(() => {});
  await until(async () => /cmdstat_pttl/.test(await client.info('commandstats')), { what: 'the waiter' });
  // A handshake takes longer than its connect_timeout.
  proxy.delay(80);
  proxy.cut();
  assert.equal(await within(20000, patient.lock('job')), true);
  proxy.heal();
  await client.del('reservation-held');
  await within(20000, waiting);
});
