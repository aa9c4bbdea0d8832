// The examples that need more than a plain server: TLS, a user with few rules, a unix socket, sentinels, a cluster.
'use strict';

const assert = require('node:assert/strict');
const { test } = require('node:test');
const { startChild } = require('../support/child');
const { startServer } = require('../support/server');
const { addUser } = require('./support/acl');
const { certificates } = require('./support/certificates');
const { startCluster } = require('./support/cluster');
const { withoutTls } = require('./support/node');
const { documentedRules } = require('./support/rules');
const { startSentinels } = require('./support/sentinels');
const { startTlsServer } = require('./support/tls-server');
const { startUnixServer } = require('./support/unix-server');

const key = 'reservation-nightly-report';

/** Runs an example, which must exit with 0. Gives what it printed, without its log lines. */
async function linesOf(t, file, env, options = {}) {
  const child = startChild(t, file, { ...options, env });
  assert.deepEqual(await child.exit({ timeout: 30000 }), { code: 0, signal: null }, child.stderr);
  assert.equal(child.stderr, '');
  return linesIn(child);
}

function linesIn(child) {
  return child.stdout.split('\n').filter((line) => line && !line.startsWith('{'));
}

/** Addresses in the form of the examples' environment variables. */
function listed(addresses) {
  return addresses.map(({ host, port }) => `${host}:${port}`).join(',');
}

test(
  'tls.js: a private authority, and a client certificate where the server requires one',
  {
    skip: withoutTls(),
  },
  async (t) => {
    const { ca, client } = certificates();
    const plain = await startTlsServer(t);
    assert.deepEqual(await linesOf(t, 'examples/tls.js', { ...plain.environment, REDIS_CA: ca.certFile }), [
      'the job runs',
    ]);
    const strict = await startTlsServer(t, { clients: 'yes' });
    const shown = { REDIS_CA: ca.certFile, REDIS_CERT: client.certFile, REDIS_KEY: client.keyFile };
    assert.deepEqual(await linesOf(t, 'examples/tls.js', { ...strict.environment, ...shown }), [
      'the job runs',
    ]);
    assert.equal(await strict.command('EXISTS', key), 0);
  },
);

test('tls.js refuses a server that it does not trust', { skip: withoutTls() }, async (t) => {
  const server = await startTlsServer(t, { certificate: 'foreignServer' });
  const env = { ...server.environment, REDIS_CA: certificates().ca.certFile };
  const child = startChild(t, 'examples/tls.js', { env });
  assert.equal((await child.exit({ timeout: 20000 })).code, 1);
  assert.match(child.stderr, /^ERR_REDIS_CONNECTION .*certificate/);
});

test('users.js: the documented rules are enough, and a refusal names the missing rule', async (t) => {
  const server = await startServer(t);
  const rules = documentedRules('worker');
  const { username, password } = await addUser(server, { rules });
  const env = { ...server.environment, REDIS_USER: username, REDIS_PASSWORD: password };
  assert.deepEqual(await linesOf(t, 'examples/users.js', env), ['the job runs']);
  assert.equal(await server.command('EXISTS', key), 0);

  await addUser(server, { username, password, rules: [...rules, '-set'] });
  const child = startChild(t, 'examples/users.js', { env });
  assert.equal((await child.exit({ timeout: 20000 })).code, 1);
  assert.match(child.stdout, /^Auth error: NOPERM .* To allow it: ACL SETUSER worker \+set$/m);
});

test('socket.js', async (t) => {
  const server = await startUnixServer(t);
  const lines = await linesOf(t, 'examples/socket.js', { REDIS_SOCKET: server.socketPath });
  assert.deepEqual(lines, ['the job runs']);
  assert.equal(await server.command('EXISTS', key), 0);
});

for (const coffee of [1, 2]) {
  test(`url.coffee, with CoffeeScript ${coffee}`, async (t) => {
    const server = await startServer(t, { password: 'a/b' });
    const REDIS_URL = `redis://:a%2Fb@${server.host}:${server.port}/2?key_prefix=billing-`;
    const child = startChild(t, 'examples/url.coffee', { coffee, env: { REDIS_URL } });
    assert.deepEqual(await child.exit(), { code: 0, signal: null }, child.stderr);
    assert.deepEqual(linesIn(child), ['the job runs', 'the lock is free']);
    assert.match(child.stdout, /"key":"billing-nightly-report"/);
    assert.doesNotMatch(child.stdout, /a\/b|a%2Fb/);
  });
}

test('sentinel.js holds its lock through a failover', async (t) => {
  const group = await startSentinels(t);
  const env = { REDIS_SENTINELS: listed(group.addresses), REDIS_MASTER: group.name, STEPS: '40' };
  const child = startChild(t, 'examples/sentinel.js', { env });
  await child.line('step 1');
  const dead = await group.killMaster();
  const master = await group.waitForFailover(dead);
  await child.line('done, held: true', { timeout: 30000 });
  await child.line('freed 1', { timeout: 30000 });
  assert.deepEqual(await child.exit(), { code: 0, signal: null }, child.stderr);
  assert.equal(child.stderr, '');
  assert.equal(await master.command('EXISTS', key), 0);
});

test('cluster.js locks on every node, and its waits wake there', async (t) => {
  const cluster = await startCluster(t);
  const [one] = cluster.addresses; // the client finds the others through it
  const lines = await linesOf(t, 'examples/cluster.js', { REDIS_CLUSTER: listed([one]) });
  assert.deepEqual(lines, ['first: true true true true', 'first freed 4', 'second: true', 'second freed 4']);
});
