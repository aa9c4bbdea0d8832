// Secrets: a child goes through every failing path with a password that is easy to find, prints all that it is given,
// and the password must be nowhere in what it printed.
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

/** A password as it would look in whatever form it could leak. */
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
    // A part of it is a leak as well.
    password.slice(0, 5),
    'h0rse',
    'b@ttery',
  ];
}

/** Fails with the lines around it if the password is in there, in whatever form. */
function assertNowhere(text, where) {
  for (const form of [...formsOf(right), ...formsOf(wrong)]) {
    const place = text.indexOf(form);
    assert.ok(place < 0, `${where}, as ${form}: …${text.slice(Math.max(0, place - 300), place + 100)}…`);
  }
}

/** Runs one path of secrets.child.js; gives all that it printed, once it has reached what it was to reach. */
async function run(t, path, settings, { meanwhile, expected }) {
  const child = startChild(t, '__test__/faults/secrets.child.js', {
    // Whatever debug output there is in the core is wanted, too.
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

test('the search itself finds what it is for', () => {
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
  ['nobody listens', nowhere, { expected: [/ECONNREFUSED/, /redis-error/] }],
  ['no such host', async () => ({ host: 'no-such-host.invalid', port: 1 }), { expected: [/ENOTFOUND/] }],
  ['arguments', async () => null, { expected: [/ERR_INVALID_ARG_VALUE/, /ERR_INVALID_ARG_TYPE/] }],
]) {
  test(`${path}: the password is nowhere`, async (t) => {
    const server = await startServer(t, { password: right });
    const { host, port } = (await make(server)) || server;
    const { password = right, expected } = options;
    const text = await run(t, path, { host, port, password }, { expected });
    assertNowhere(text, path);
  });
}

test('redis hung, at the handshake and later: the password is nowhere', async (t) => {
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
      // The handshake passes; then nothing comes back any more.
      meanwhile: async () => {
        await until(async () => (await server.command('DBSIZE')) > 0, { ...patient, what: 'a lock' });
        proxy.stall('down');
      },
      expected: [/ERR_REDIS_TIMEOUT|ERR_REDIS_CONNECTION|ERR_RESERVATION_LOST/],
    },
  );
  assertNowhere(late, 'hung later');
});

test('garbage in the handshake: the password is nowhere', async (t) => {
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

test('refused by ACL, out of memory, read-only, a broken script: the password is nowhere', async (t) => {
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

test('losses, to listeners and uncaught: the password is nowhere', async (t) => {
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
  // Nor does redis have it anywhere that others could read.
  const values = await Promise.all((await client.keys('*')).map((key) => client.get(key)));
  assertNowhere(`${values} ${await client.client('LIST')}`, 'redis');
});
