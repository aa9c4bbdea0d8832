// The kits of this folder themselves: TLS refuses what it should, sentinels and clusters fail over, slots move, and nothing
// outlives a killed test.
'use strict';

const assert = require('node:assert/strict');
const fs = require('node:fs');
const { test } = require('node:test');
const tls = require('node:tls');
const { startChild } = require('../support/child');
const { makeReservation } = require('../support/reservation');
const { until } = require('../support/wait');
const { addUser, changeUser, removeUser } = require('./support/acl');
const { certificates } = require('./support/certificates');
const { startCluster } = require('./support/cluster');
const { startNode, withoutTls } = require('./support/node');
const { startSentinels } = require('./support/sentinels');
const { namesInSlots, slotOf } = require('./support/slots');
const { startTlsServer } = require('./support/tls-server');
const { startUnixServer } = require('./support/unix-server');
const { contend, hold, watchExclusion } = require('./support/workload');

const skip = withoutTls();
const key = 'reservation-{tag}job';
const slot = slotOf(key);
const acl = { username: 'worker', password: 'a:secret', rules: ['~reservation-*', '&*', '+@all'] };

/** 'PONG', or the error code of node:tls or redis. */
function ping(server, options) {
  return new Promise((resolve) => {
    const socket = tls.connect({ host: 'localhost', port: server.port, ...options });
    socket.on('error', (error) => resolve(error.code));
    socket.on('data', (data) => {
      socket.destroy();
      resolve(data.toString().replace(/^\+|\r\n$/g, ''));
    });
    socket.write('PING\r\n');
  });
}

test(
  'a certificate is valid for clients that trust its authority, for its names and its dates',
  { skip },
  async (t) => {
    const { ca, foreignCa } = certificates();
    const server = await startTlsServer(t);
    assert.equal(await ping(server, { ca: ca.cert }), 'PONG');
    assert.equal(await ping(server, { ca: ca.cert, host: '127.0.0.1' }), 'PONG');
    // The second one if the server also sends its authority, which redis does.
    const untrusted = /^(UNABLE_TO_VERIFY_LEAF_SIGNATURE|SELF_SIGNED_CERT_IN_CHAIN)$/;
    assert.match(await ping(server, { ca: foreignCa.cert }), untrusted);
    assert.match(await ping(server, {}), untrusted);
    await server.useCertificate('expired');
    assert.equal(await ping(server, { ca: ca.cert }), 'CERT_HAS_EXPIRED');
    const other = await startTlsServer(t, { certificate: 'otherHost' });
    assert.equal(await ping(other, { ca: ca.cert }), 'ERR_TLS_CERT_ALTNAME_INVALID');
    assert.equal(await ping(other, { ca: ca.cert, servername: 'redis.example' }), 'PONG');
  },
);

test('a server that requires client certificates serves clients with a valid one', { skip }, async (t) => {
  const { ca, client, foreignClient } = certificates();
  const server = await startTlsServer(t, { clients: 'yes' });
  const shown = ({ cert, key: secret }) => ({ ca: ca.cert, cert, key: secret });
  assert.equal(await ping(server, shown(client)), 'PONG');
  // TLS 1.3: the refusal may come as an alert or as a closed connection.
  assert.match(await ping(server, { ca: ca.cert }), /CERTIFICATE_REQUIRED|ECONNRESET/);
  assert.match(await ping(server, shown(foreignClient)), /UNKNOWN_CA|DECRYPT_ERROR|ECONNRESET/);
  const lenient = await startTlsServer(t, { clients: 'optional' });
  assert.equal(await ping(lenient, { ca: ca.cert }), 'PONG');
});

test('a user has the permissions of its rules, from the start or once it is added', async (t) => {
  const server = await startNode(t, { acl });
  const worker = server.client(acl);
  assert.equal(await worker.call('ACL', 'WHOAMI'), 'worker');
  await assert.rejects(worker.get('other'), /NOPERM/);
  assert.match(await server.ask(`GET ${key}\r\n`), /^-NOAUTH/, 'the default user is off');
  const made = await addUser(server, { username: 'made', rules: ['~*', '+get'] });
  const client = server.client(made);
  assert.equal(await client.get(key), null);
  await changeUser(server, 'made', '-get');
  await assert.rejects(client.get(key), /NOPERM/);
  await removeUser(server, 'made');
  await assert.rejects(server.client(made).get(key), /WRONGPASS|NOAUTH/);
});

test('a server on a unix socket listens on nothing else', async (t) => {
  const server = await startUnixServer(t, { password: 'a secret' });
  assert.equal(await server.client().set(key, 'value'), 'OK');
  const refused = server.client({
    path: undefined,
    host: server.host,
    port: server.port,
    retryStrategy: null,
  });
  await assert.rejects(refused.get(key));
  const both = await startUnixServer(t, { tcp: true });
  assert.equal(await both.client({ path: undefined, host: both.host, port: both.port }).ping(), 'PONG');
});

for (const [name, options] of Object.entries({
  plain: {},
  'with passwords and TLS': { password: 'a "secret"', sentinelPassword: 'another', tls: { clients: 'yes' } },
  'with users': { acl, sentinelAcl: { username: 'looker', password: 'b' } },
})) {
  test(
    `sentinels, ${name}: after SIGKILL of the master, another node takes writes`,
    needs(options),
    async (t) => {
      const kit = await startSentinels(t, options);
      const first = await kit.master();
      await first.command('SET', key, 'before');
      await until(() => kit.isReplicated(first));
      assert.equal(await kit.killMaster(), first);
      const second = await kit.waitForFailover(first);
      assert.equal(await second.command('GET', key), 'before');
      assert.equal(await second.command('SET', key, 'after'), 'OK');
      assert.equal(await kit.master(), second);
      await first.start();
      await until(async () => (await first.command('ROLE'))[0] === 'slave', { timeout: 20000 });
      await until(async () => (await first.command('GET', key)) === 'after', { timeout: 20000 });
    },
  );
}

test('sentinels: a master that hangs is replaced, and becomes a replica when it goes on', async (t) => {
  const kit = await startSentinels(t);
  const hung = await kit.pauseMaster();
  const second = await kit.waitForFailover(hung);
  hung.resume();
  await until(async () => (await hung.command('ROLE'))[0] === 'slave', { timeout: 20000 });
  assert.ok((await kit.replicas()).includes(hung));
  assert.equal(await kit.master(), second);
});

test('cluster: a slot moves, and answers ASK during the move', async (t) => {
  const cluster = await startCluster(t);
  const from = await cluster.nodeOf(key);
  assert.equal(await from.command('CLUSTER', 'KEYSLOT', key), slot);
  assert.equal((await cluster.replicasOf(from)).length, 1);
  await from.command('SET', key, 'value');
  const to = await cluster.otherMaster(slot);
  await assert.rejects(to.command('GET', key), { message: `MOVED ${slot} ${from.address}` });
  const move = await cluster.beginMove(slot, to);
  assert.equal(await from.command('GET', key), 'value', 'still here');
  assert.equal(await cluster.migrateKeys(move), 1);
  await assert.rejects(from.command('GET', key), { message: `ASK ${slot} ${to.address}` });
  await cluster.finishMove(move);
  await assert.rejects(from.command('GET', key), { message: `MOVED ${slot} ${to.address}` });
  assert.equal(await cluster.command(key, 'GET', key), 'value');
  const added = await cluster.addNode();
  await cluster.moveSlot(slot, added);
  assert.equal(await added.command('GET', key), 'value');
  const [name] = namesInSlots((one) => one < 100);
  assert.ok(slotOf(`reservation-${name}`) < 100);
});

for (const [name, options] of Object.entries({
  plain: {},
  'with a user and TLS': { acl, tls: { clients: 'yes' } },
})) {
  test(`cluster, ${name}: after SIGKILL of a master, its replica takes writes`, needs(options), async (t) => {
    const cluster = await startCluster(t, options);
    const first = await cluster.killMasterOf(slot);
    const second = await cluster.waitForPromotion(slot, first);
    assert.notEqual(second, first);
    assert.equal(await cluster.command(key, 'SET', key, 'after'), 'OK');
    await first.start();
    await cluster.waitUntilHealthy();
    assert.deepEqual(await cluster.replicasOf(second), [first]);
    assert.equal(await cluster.failover(slot), first);
    assert.equal(await first.command('GET', key), 'after');
  });
}

test('the workload records losses, and sees two holders at once', async (t) => {
  const server = await startNode(t);
  const exclusion = watchExclusion(t);
  const holding = await hold(() => makeReservation(t, server, { interval: 100 }), 3, { exclusion });
  const contest = contend(t, () => makeReservation(t, server), 'prize', { exclusion });
  await until(() => contest.turns > 10);
  assert.deepEqual((await contest.stop()).errors, []);
  holding.assertNoneLost();
  await server.command('SET', 'reservation-job-1', 'thief');
  await until(() => holding.lost.length > 0);
  assert.deepEqual(
    holding.lost.map(({ resource }) => resource),
    ['job-1'],
  );
  assert.throws(() => holding.assertNoneLost(), /nothing was lost/);
  assert.equal(await holding.release(), 2);
  assert.equal(holding.isTold, true);
  exclusion.assertNever();
  const liar = { is_held: () => true };
  exclusion.add('job', liar);
  exclusion.add('job', { ...liar });
  assert.throws(() => exclusion.assertNever(), /job had 2 holders/);
});

for (const [name, code] of Object.entries({
  cluster: "require('./__test__/topologies/support/cluster').startCluster(null).then(({ nodes }) => nodes)",
  sentinels:
    "require('./__test__/topologies/support/sentinels').startSentinels(null).then((kit) => kit.everyone)",
})) {
  for (const signal of ['SIGTERM', 'SIGKILL']) {
    test(`every process of the ${name} ends after a ${signal}`, async (t) => {
      const report = `.then((nodes) => {
        nodes[0].pause(); // a paused process cannot react to a request to end
        process.send(nodes.map(({ pid, dir }) => ({ pid, dir })));
        setInterval(() => {}, 1000);
      });`;
      const child = startChild(t, { code: code + report });
      const started = await child.message(() => true, { timeout: 30000 });
      assert.equal(started.length, 6);
      assert.ok(started.every(({ pid }) => isRunning(pid)));
      await child.kill(signal);
      await until(() => !started.some(({ pid }) => isRunning(pid)), { what: 'the end of all nodes' });
      for (const { dir } of started) {
        if (signal !== 'SIGKILL') assert.equal(fs.existsSync(dir), false, 'its folder is gone');
        fs.rmSync(dir, { recursive: true, force: true });
      }
    });
  }
}

/** Options of a test that starts a kit with these options. */
function needs(options) {
  return { skip: options.tls ? skip : false };
}

/** Whether a process runs. A zombie, which has ended but was not reaped, does not. */
function isRunning(pid) {
  try {
    process.kill(pid, 0);
  } catch {
    return false;
  }
  const status = `/proc/${pid}/status`;
  return !fs.existsSync(status) || !/^State:\s+Z/m.test(fs.readFileSync(status, 'utf8'));
}
