// Secrets: a child goes through every failing path with a recognisable password, and prints everything that it gets. The
// password must not be in its output.
'use strict';

const assert = require('node:assert/strict');
const { test } = require('node:test');
const { startChild } = require('../support/child');
const { patient } = require('../support/faults');
const { startProxy } = require('../support/proxy');
const { startServer, freePort } = require('../support/server');
const { until } = require('../support/wait');

const right = 'R1ght"h0rse\\b@ttery/stap:le';
const wrong = 'Wr0ng"h0rse\\b@ttery/stap:le';

/** The forms in which a password could leak. */
function formsOf(password) {
  const bytes = Buffer.from(password);
  const quoted = JSON.stringify(password).slice(1, -1);
  return [
    password,
    quoted,
    JSON.stringify(quoted).slice(1, -1),
    encodeURIComponent(password),
    encodeURI(password),
    bytes.toString('base64').replace(/=+$/, ''),
    bytes.toString('hex'),
    [...bytes].join(','),
    [...bytes].join(', '),
    // A part of it also counts as a leak.
    password.slice(0, 5),
    'h0rse',
    'b@ttery',
  ];
}

/** Fails, showing the lines around it, if the text contains the password in any form. */
function assertNowhere(text, where) {
  for (const form of [...formsOf(right), ...formsOf(wrong)]) {
    const place = text.indexOf(form);
    assert.ok(place < 0, `${where}, as ${form}: …${text.slice(Math.max(0, place - 300), place + 100)}…`);
  }
}

/** Runs one path of secrets.child.js. Gives its whole output, once it has reached the failure of the path. */
async function run(t, path, settings, { meanwhile, expected }) {
  const child = startChild(t, '__test__/faults/secrets.child.js', {
    // With all debug output of the core.
    env: { RUST_LOG: 'trace', RUST_BACKTRACE: 'full', DEBUG: '*' },
  });
  child.send({ path, settings });
  if (meanwhile) await meanwhile(child);
  await child.message({ done: path }, { timeout: 60000 });
  const text = () => child.stdout + child.stderr;
  for (const pattern of expected)
    await until(() => pattern.test(text()), { ...patient, what: `${pattern} of ${path}` });
  child.send({ path: 'done' });
  assert.deepEqual(await child.exit(), { code: 0, signal: null }, child.stderr);
  if (path !== 'arguments') assert.match(text(), /\[hidden\]/, 'instances were printed');
  return text();
}

test('the search finds a leaked password', () => {
  for (const form of [
    right,
    JSON.stringify({ right }),
    encodeURIComponent(wrong),
    Buffer.from(right).toString('base64'),
  ]) {
    assert.throws(() => assertNowhere(`some text, ${form}, and more`, 'text'), /as /);
  }
  assertNowhere('some text', 'text');
});

const nowhere = async () => ({ host: '127.0.0.1', port: await freePort() });

for (const [path, make, options] of [
  [
    'wrong password',
    async () => null,
    { password: wrong, expected: [/WRONGPASS/, /redis-error/, /reservation-failed/] },
  ],
  [
    'wrong password in a URL',
    async ({ host, port }) => ({ host: `redis://:${encodeURIComponent(wrong)}@${host}:${port}?db=1` }),
    { password: '', expected: [/WRONGPASS/, /redis-error/, /redis:\/\/:\[hidden\]@/] },
  ],
  ['connection refused', nowhere, { expected: [/ECONNREFUSED/, /redis-error/] }],
  ['no such host', async () => ({ host: 'no-such-host.invalid', port: 1 }), { expected: [/ENOTFOUND/] }],
  ['arguments', async () => null, { expected: [/ERR_INVALID_ARG_VALUE/, /ERR_INVALID_ARG_TYPE/] }],
]) {
  test(`${path}: no output contains the password`, async (t) => {
    const server = await startServer(t, { password: right });
    const { host, port } = (await make(server)) || server;
    const { password = right, expected } = options;
    const text = await run(t, path, { host, port, password }, { expected });
    assertNowhere(text, path);
  });
}

test('redis hangs, in the handshake and later: no output contains the password', async (t) => {
  const server = await startServer(t, { password: right });
  const settings = { host: server.host, port: server.port, password: right };
  server.pause();
  const options = { connect_timeout: 400, command_timeout: 300 };
  const early = await run(
    t,
    'hung',
    { ...settings, options },
    { expected: [/ERR_REDIS_CONNECTION/, /connect_timeout/] },
  );
  server.resume();
  assertNowhere(early, 'hung at the handshake');
  const proxy = await startProxy(t, server);
  const late = await run(
    t,
    'hung',
    { ...settings, port: proxy.port, options },
    {
      // The handshake passes. Then no reply comes any more.
      meanwhile: async () => {
        await until(async () => (await server.command('DBSIZE')) > 0, { ...patient, what: 'a lock' });
        proxy.stall('down');
      },
      expected: [/ERR_REDIS_TIMEOUT|ERR_REDIS_CONNECTION|ERR_RESERVATION_LOST/],
    },
  );
  assertNowhere(late, 'hung later');
});

test('garbage in the handshake: no output contains the password', async (t) => {
  const server = await startServer(t, { password: right });
  const proxy = await startProxy(t, server);
  let garble = true;
  const { connect } = proxy;
  proxy.connect = (socket) => {
    if (garble) proxy.corruptNext('-ERR what was that?\r\n');
    connect.call(proxy, socket);
  };
  const settings = { host: proxy.host, port: proxy.port, password: right };
  const text = await run(t, 'garbage', settings, { expected: [/what was that|ERR_REDIS/] });
  garble = false;
  assertNowhere(text, 'garbage');
});

test('refused by ACL, out of memory, read-only, a broken script: no output contains the password', async (t) => {
  const server = await startServer(t, { password: right });
  const settings = { host: server.host, port: server.port, password: right };
  const client = server.client();
  for (const [path, make, undo, expected] of [
    [
      'NOPERM',
      () => client.acl('SETUSER', 'default', '-set'),
      () => client.acl('SETUSER', 'default', '+set'),
      /NOPERM/,
    ],
    [
      'OOM',
      () => client.config('SET', 'maxmemory', '1'),
      () => client.config('SET', 'maxmemory', '0'),
      /OOM/,
    ],
    ['READONLY', () => client.replicaof('127.0.0.1', '1'), () => client.replicaof('NO', 'ONE'), /READONLY/],
  ]) {
    await make();
    const text = await run(t, path, settings, { expected: [expected] });
    await undo();
    assertNowhere(text, path);
  }
});

test('losses, to listeners and uncaught: no output contains the password', async (t) => {
  const server = await startServer(t, { password: right });
  const client = server.client();
  const settings = { host: server.host, port: server.port, password: right };
  const text = await run(t, 'loss', settings, {
    meanwhile: async () => {
      const keys = ['reservation-stolen', 'reservation-stolen too'];
      await until(async () => (await client.exists(...keys)) === 2, { ...patient, what: 'the locks' });
      for (const key of keys) await client.set(key, 'thief-1');
    },
    expected: [/loss: lost/, /uncaught, uncaughtException/, /thief-1/, /reservation-lost/],
  });
  assertNowhere(text, 'loss');
  // Redis must not have it anywhere that others can read.
  const values = await Promise.all((await client.keys('*')).map((key) => client.get(key)));
  assertNowhere(`${values} ${await client.client('LIST')}`, 'redis');
});
