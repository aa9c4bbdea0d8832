// TLS between clients, sentinels and servers, with a private authority; a failover over it; and certificates of an untrusted
// authority, or for another host.
'use strict';

const assert = require('node:assert/strict');
const { after, before, suite, test } = require('node:test');
const { keepLosses, askError } = require('../support/reservation');
const { until, within } = require('../support/wait');
const { certificates } = require('./support/certificates');
const { withoutTls } = require('./support/node');
const { startSentinels } = require('./support/sentinels');
const {
  areRenewedSince,
  keyOf,
  startSteadySentinels,
  throughSentinels,
} = require('./support/through-sentinels');

const skip = withoutTls();

async function assertRefused(t, kit, options, words) {
  const error = await within(
    10000,
    askError((done) => throughSentinels(t, kit, { options }).lock('refused', done)),
  );
  assert.equal(error.code, 'ERR_REDIS_CONNECTION', error.message);
  assert.match(error.message, words);
  assert.ok(error.message.includes(kit.name), error.message);
}

async function assertServed(t, kit, options, resource) {
  const reservation = throughSentinels(t, kit, { options });
  assert.equal(await reservation.lock(resource), true);
  assert.equal(await kit.nodes[0].command('GET', keyOf(resource)), reservation._reserve_val);
  assert.equal(await reservation.release(), 1);
}

test('TLS and passwords everywhere, certificates on both sides, and a failover', { skip }, async (t) => {
  const { ca, client } = certificates();
  const passwords = { password: 'a "secret"', sentinelPassword: 'another' };
  const kit = await startSteadySentinels(t, { ...passwords, tls: { clients: 'yes' } });
  const tls = { ca: ca.cert, cert: client.cert, key: client.key };
  await assertRefused(t, kit, { tls: { ca: ca.cert } }, /certificate/i);
  const first = await kit.master();
  const [holder, waiter] = [1, 2].map(() =>
    throughSentinels(t, kit, { ttl: 15, interval: 300, options: { tls } }),
  );
  const losses = keepLosses(holder);
  assert.equal(await holder.lock('job'), true);
  const waiting = waiter.wait_until_lock('job', { signal: t.signal });
  await until(() => kit.isReplicated(first));
  await first.kill();
  const killed = performance.now();
  const second = await kit.waitForFailover(first);
  await until(() => areRenewedSince(second, ['job'], killed, 15), {
    timeout: 15000,
    what: 'a renewal there',
  });
  assert.equal(await second.command('GET', keyOf('job')), holder._reserve_val);
  assert.deepEqual([holder.held, losses], [true, []]);
  assert.equal(await holder.release(), 1);
  assert.equal(await within(5000, waiting), keyOf('job'));
  assert.equal(await second.command('GET', keyOf('job')), waiter._reserve_val);
  assert.equal(await waiter.release(), 1);
});

suite('certificates of a private authority', { skip }, () => {
  let kit;
  before(async () => {
    kit = await startSentinels(null, { replicas: 0, tls: {} });
  });
  after(() => kit.stop());

  test('are trusted with that authority', (t) =>
    assertServed(t, kit, { tls: { ca: certificates().ca.cert } }, 'ca'));

  test('are trusted with rejectUnauthorized: false', (t) =>
    assertServed(t, kit, { tls: { rejectUnauthorized: false } }, 'any'));

  test('are refused with another authority', (t) =>
    assertRefused(t, kit, { tls: { ca: certificates().foreignCa.cert } }, /certificate|issuer/i));

  test('are refused with the certificates that Node trusts', (t) =>
    assertRefused(t, kit, { tls: true }, /certificate|issuer/i));

  test('cannot be used without TLS', (t) => assertRefused(t, kit, {}, /sentinels/));
});

test('certificates for another host are refused, although the authority is right', { skip }, async (t) => {
  const tls = { ca: certificates().ca.cert };
  const kit = await startSentinels(t, { replicas: 0, tls: { certificate: 'otherHost' } });
  await assertRefused(t, kit, { tls }, /certificate|name/i);
  await assertServed(t, kit, { tls: { rejectUnauthorized: false } }, 'unverified');
});

test(
  'a server certificate for another host is refused, although the sentinels are trusted',
  { skip },
  async (t) => {
    const tls = { ca: certificates().ca.cert };
    const kit = await startSentinels(t, { replicas: 0, tls: {} });
    await assertServed(t, kit, { tls, client_name: 'before' }, 'before');
    await kit.nodes[0].useCertificate('otherHost');
    await assertRefused(t, kit, { tls, client_name: 'after' }, /certificate|name/i);
    await assertServed(t, kit, { tls: { rejectUnauthorized: false } }, 'unverified');
  },
);

test('a client with TLS, and sentinels and servers without: an error', { skip }, async (t) => {
  const kit = await startSentinels(t, { replicas: 0 });
  await assertRefused(t, kit, { tls: { ca: certificates().ca.cert } }, /sentinels/);
});
