// Locks over TLS: waits and wake-ups, renewals, reconnects, a certificate that becomes invalid; and which instances share a
// connection.
'use strict';

const assert = require('node:assert/strict');
const { test } = require('node:test');
const { ran } = require('../support/faults');
const { keepLog, keepLosses } = require('../support/reservation');
const { until } = require('../support/wait');
const { addUser } = require('./support/acl');
const { certificates } = require('./support/certificates');
const { connections, cut, patient, reserve, resp3, wakeUp } = require('./support/looks');
const { withoutTls } = require('./support/node');
const { startTlsServer } = require('./support/tls-server');

const skip = withoutTls();

const trusted = () => ({ ca: certificates().ca.cert });

/** Less than 0.9 s, which is when a waiter polls. */
const promptly = 700;

test('a user of the server can lock, get false, hand over and release', { skip }, async (t) => {
  const server = await startTlsServer(t, { clients: 'yes' });
  const { cert, key } = certificates().client;
  const { username, password } = await addUser(server);
  const tls = { ...trusted(), cert, key };
  const [one, other] = [1, 2].map(() => reserve(t, server, { tls, username }, { password }));
  assert.equal(await one.lock('job'), true);
  assert.equal(await other.lock('job'), false);
  assert.equal(await server.command('GET', 'reservation-job'), one._reserve_val);
  const waiting = other.wait_until_lock('job', { timeout: patient.timeout });
  assert.equal(await one.release(), 1);
  assert.equal(await waiting, 'reservation-job');
  assert.equal(await server.command('GET', 'reservation-job'), other._reserve_val);
  assert.equal(await other.release(), 1);
  assert.equal(await server.command('EXISTS', 'reservation-job'), 0);
});

test('the server’s invalidation wakes a waiter', { skip }, async (t) => {
  const server = await startTlsServer(t);
  const log = keepLog();
  const reservation = reserve(t, server, { tls: trusted() }, { log });
  assert.ok((await wakeUp(server, reservation, 'job')) < promptly);
  const [{ resp, flags }, ...others] = await connections(server);
  assert.deepEqual([resp, others.length], [await resp3(server), 0]);
  assert.match(flags, /t/, 'tracking');
  assert.deepEqual(log.of('waiting-by-polling'), []);
});

test('a lock is renewed, and outlives its connection', { skip }, async (t) => {
  const server = await startTlsServer(t);
  const client = server.client();
  const reservation = reserve(t, server, { tls: trusted() }, { interval: 100, ttl: 30 });
  const losses = keepLosses(reservation);
  await reservation.lock('job');
  await ran(client, 'pexpire', 3);
  for (let round = 0; round < 2; round += 1) {
    const [{ id }] = await connections(server);
    await cut(server);
    await ran(client, 'pexpire', 2);
    const [again, ...others] = await connections(server);
    assert.equal(others.length, 0);
    assert.ok(Number(again.id) > Number(id), 'another connection');
  }
  assert.deepEqual([reservation.held, losses], [true, []]);
  assert.ok((await server.command('PTTL', 'reservation-job')) > 25000);
  assert.equal(await reservation.release(), 1);
});

test('a waiter outlives its connection', { skip }, async (t) => {
  const server = await startTlsServer(t);
  const client = server.client();
  await client.set('reservation-job', 'somebody', 'EX', 600);
  const waiting = reserve(t, server, { tls: trusted() }).wait_until_lock('job', { timeout: patient.timeout });
  await until(async () => (await connections(server)).length === 1, { ...patient, what: 'its connection' });
  await cut(server);
  await until(async () => (await connections(server)).length === 1, {
    ...patient,
    what: 'its next connection',
  });
  await client.del('reservation-job');
  assert.equal(await waiting, 'reservation-job');
});

test(
  'the client keeps trying after a certificate becomes invalid while a lock is held',
  { skip },
  async (t) => {
    const server = await startTlsServer(t);
    const client = server.client();
    const log = keepLog();
    const reservation = reserve(t, server, { tls: trusted() }, { interval: 100, ttl: 30, log });
    const losses = keepLosses(reservation);
    await reservation.lock('job');
    await ran(client, 'pexpire', 1);
    await server.useCertificate('expired');
    await cut(server);
    await until(() => log.of('expire-set-failed').length > 0, { ...patient, what: 'a renewal that fails' });
    assert.match(log.of('expire-set-failed')[0].err, /certificate has expired/);
    await server.useCertificate('server');
    await ran(client, 'pexpire', 2);
    assert.deepEqual([reservation.held, losses], [true, []]);
    assert.equal(await reservation.release(), 1);
  },
);

test('instances with equal tls options share a connection, others do not', { skip }, async (t) => {
  const server = await startTlsServer(t);
  const { ca, foreignCa, client } = certificates();
  const count = async (...all) => {
    const before = (await connections(server)).length;
    for (const [index, tls] of all.entries()) {
      assert.equal(await reserve(t, server, { tls }).lock(`job ${before} ${index}`), true);
    }
    return (await connections(server)).length - before;
  };
  const same = [
    { ca: ca.cert },
    { ca: Buffer.from(ca.cert) },
    { ca: [ca.cert] },
    { ca: ca.cert, rejectUnauthorized: true },
    { ca: ca.cert, servername: null, cert: undefined },
  ];
  assert.equal(await count(...same), 1, 'the same in other words');
  const others = [
    { ca: `${ca.cert}${foreignCa.cert}` },
    { ca: ca.cert, cert: client.cert, key: client.key },
    { ca: ca.cert, servername: 'localhost' },
    { ca: ca.cert, rejectUnauthorized: false },
  ];
  assert.equal(await count(...others), others.length, 'each by itself');
  assert.equal(await count(...same, ...others), 0, 'all again');
});

test('a changed option applies from the next call on, over another connection', { skip }, async (t) => {
  const server = await startTlsServer(t);
  const { ca, foreignCa } = certificates();
  const options = { tls: { ca: foreignCa.cert } };
  const reservation = reserve(t, server, options);
  await assert.rejects(reservation.lock('job'), { code: 'ERR_REDIS_CONNECTION' });
  options.tls = { ca: ca.cert };
  assert.equal(await reservation.lock('job'), true);
  assert.equal(await reservation.release(), 1);
});
