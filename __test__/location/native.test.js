// The location that the native side gets, and when it gets a new one; which instances share a handle; and the warning about
// an unverified server. A mock of the native side records its calls.
'use strict';

const assert = require('node:assert/strict');
const { test } = require('node:test');
const { startChild } = require('../support/child');

const calls = [];

// The kinds of letters (answers and events), as src/addon/environment.rs numbers them.
const ACQUIRED = 0;
const RELEASED = 2;
const DONE = 3;

// The held keys, by number.
const held = new Map();

class Native {
  constructor(...parameters) {
    calls.push(['new', ...parameters]);
    this.deliver = parameters[5].deliver;
    this.learn(parameters[7]);
  }

  learn({ key_prefix = 'reservation-' }) {
    this.prefix = key_prefix;
  }

  lock(name, call) {
    const handle = held.size;
    held.set(handle, this.prefix + name);
    setImmediate(this.deliver, [ACQUIRED, call, handle, 'value']);
  }

  is_held(handle) {
    return held.get(handle) !== undefined;
  }

  wait_until_lock(name, call) {
    this.lock(name, call);
  }

  release(handle, call) {
    held.set(handle, undefined);
    setImmediate(this.deliver, [RELEASED, call, 1, undefined]);
  }
}

function disconnect(...parameters) {
  calls.push(['disconnect', ...parameters.slice(0, 4)]);
  const [listener, call] = parameters.slice(4);
  setImmediate(listener.deliver, [DONE, call, undefined, undefined]);
}

// Before the real one is loaded.
const place = require.resolve('../../lib/load.js');
require.cache[place] = {
  id: place,
  filename: place,
  loaded: true,
  exports: { load: () => ({ ReserveResource: Native, disconnect }), is_loaded: () => true },
};
const ReserveResource = require('../../index.js');

/** The native calls during `work`. */
async function callsOf(work) {
  calls.length = 0;
  await work();
  const is_listener = (one) => one !== null && typeof one === 'object' && 'deliver' in one;
  // The options have no prototype, on purpose. Their clones have the usual one.
  return calls
    .splice(0)
    .map((call) => call.map((one) => (is_listener(one) ? 'a listener' : structuredClone(one))));
}

function make(host, port, password, options, log = false) {
  return new ReserveResource('me', host, port, 500, 2, log, password, options);
}

const LEVEL = { log_level: 0 };

test('host, port, password and options reach the native side in its form', async () => {
  for (const [given, expected] of [
    [[], ['127.0.0.1', 6379, '', LEVEL]],
    [
      ['/run/r.sock', 1],
      ['/run/r.sock', 0, '', LEVEL],
    ],
    [
      ['redis://me:p%2Fw@[::1]:6380/2?max_hold=5', null, null, { connect_timeout: 7 }],
      ['::1', 6380, 'p/w', { ...LEVEL, max_hold: 5, connect_timeout: 7, username: 'me', db: 2 }],
    ],
    [
      [
        null,
        null,
        'pw',
        { sentinels: [{ host: 'a' }], name: 'main', sentinelUsername: 'su', sentinelPassword: 'sp' },
      ],
      [
        '',
        0,
        'pw',
        {
          ...LEVEL,
          sentinels: [{ host: 'a', port: 26379 }],
          name: 'main',
          sentinel_username: 'su',
          sentinel_password: 'sp',
        },
      ],
    ],
  ]) {
    const reservation = make(...given);
    reservation.identifier = 1;
    const [host, port, password, options] = expected;
    const [[what, owner, ...rest]] = await callsOf(() => reservation.lock('job'));
    assert.equal(what, 'new');
    assert.equal(owner, 'me-1');
    assert.deepEqual(rest, [host, port, 500, 2, 'a listener', password, options]);
  }
});

test('keys begin with the prefix, wherever it was set', async () => {
  for (const [host, options, key] of [
    [null, undefined, 'reservation-job'],
    [null, { key_prefix: 'jobs:' }, 'jobs:job'],
    [null, { key_prefix: '' }, 'job'],
    ['redis://e?key_prefix=jobs%3A', undefined, 'jobs:job'],
  ]) {
    const lines = [];
    const reservation = make(host, null, null, options, (line) => lines.push(JSON.parse(line)));
    await reservation.lock('job');
    assert.equal(reservation._reserve_key, key);
    assert.equal(reservation.is_held('job'), true);
    assert.equal(await reservation.wait_until_lock('job'), key);
    await reservation.release('job');
    assert.equal(await reservation.wait_until_lock('job'), key);
    await reservation.release();
    assert.ok(
      lines.every((line) => line.key === undefined || line.key === key),
      JSON.stringify(lines),
    );
    assert.ok(lines.length >= 5);
  }
});

test('a failure names the key, unless key_prefix is wrong', async () => {
  for (const [options, data] of [
    [{ max_hodl: 5 }, { resource: 'job', key: 'reservation-job' }],
    [
      { key_prefix: 'jobs:', max_hodl: 5 },
      { resource: 'job', key: 'jobs:job' },
    ],
    [{ key_prefix: 5 }, { resource: undefined, key: undefined }],
  ]) {
    const lines = [];
    const reservation = make(null, null, null, options, (line) => lines.push(JSON.parse(line)));
    await assert.rejects(reservation.lock('job'), { code: /^ERR_INVALID_ARG/ });
    assert.equal(lines.length, 1);
    const [{ title, resource, key }] = lines;
    assert.deepEqual([title, { resource, key }], ['reservation-failed', data]);
  }
});

test('a new native object is made only when an option has another value', async () => {
  const options = { db: 1, tls: { ca: PEM }, max_hold: 5 };
  const reservation = make('e', 1, '', options);
  const change = async (work) => {
    work();
    const told = await callsOf(() => reservation.lock(`job ${Math.random()}`));
    return told.map(([what, ...parameters]) => [what, parameters[7]]);
  };
  assert.equal((await change(() => {})).length, 1, 'the first call');
  assert.deepEqual(await change(() => {}), []);
  // Another text of the same value, another object of the same content.
  assert.deepEqual(await change(() => Object.assign(options, { db: '1', tls: { ca: [PEM] } })), []);
  const told = { log_level: 0, db: 2, max_hold: 5, tls: { ca: PEM, reject_unauthorized: true } };
  assert.deepEqual(await change(() => (options.db = 2)), [['new', told]]);
  assert.deepEqual(await change(() => {}), []);
  // A change inside an object counts only once something else has changed, or with another object.
  assert.deepEqual(await change(() => (options.tls.servername = 'n')), []);
  told.tls.servername = 'n';
  assert.deepEqual(await change(() => (options.tls = { ...options.tls })), [['new', told]]);
  delete told.tls;
  assert.deepEqual(await change(() => delete options.tls), [['new', told]]);
  told.key_prefix = 'x';
  assert.deepEqual(await change(() => (options.key_prefix = 'x')), [['new', told]]);
});

test('a prefix that changes while locks are held: they keep their keys', async () => {
  const options = {};
  const reservation = make('e', 1, '', options);
  assert.equal(await reservation.wait_until_lock('job'), 'reservation-job');
  options.key_prefix = 'new-';
  // With the new prefix it is another key, which is not held.
  assert.equal(await reservation.wait_until_lock('job'), 'new-job');
  assert.equal(reservation._reserve_key, 'new-job');
});

test('instances share a handle exactly if their endpoints are equal', () => {
  const handle = (...given) => make(...given)._init_redis();
  const group = { sentinels: [{ host: 'a' }], name: 'main' };
  const tls = { ca: PEM };
  for (const [one, other] of [
    [['e'], ['e', 6379, '', {}]],
    [['e', 1, 'pw'], ['redis://:pw@e:1']],
    [
      ['e', 1, '', { username: 'me', db: 2 }],
      ['redis://me@e:1/2', null, '', { db: 2 }],
    ],
    [
      ['e', 1, '', { max_hold: 1, key_prefix: 'a', min_replicas: 1 }],
      ['e', 1, '', { connect_timeout: 1 }],
    ],
    [['/r.sock', 1], ['unix:///r.sock']],
    [['rediss://e'], ['e', null, null, { tls: true }]],
    [
      ['e', 1, '', { tls }],
      ['e', 1, '', { tls: { ca: [PEM] } }],
    ],
    [
      [null, null, '', group],
      [null, null, '', { ...group, sentinels: [{ host: 'a', port: '26379' }] }],
    ],
    [
      ['e', 1, '', { db: 0, client_name: 'redis-reservation' }],
      ['e', 1],
    ],
  ]) {
    assert.equal(handle(...one), handle(...other), JSON.stringify([one, other]));
    // Found again after another look-up.
    handle('elsewhere');
    assert.equal(handle(...one), handle(...other), JSON.stringify([one, other]));
  }
  const different = [
    ['e', 1],
    ['e', 1, 'pw'],
    ['e', 1, '', { username: 'me' }],
    ['e', 1, '', { db: 1 }],
    ['e', 1, '', { client_name: 'x' }],
    ['e', 1, '', { protocol: 2 }],
    ['e', 1, '', { protocol: 3 }],
    ['e', 1, '', { tls: true }],
    ['e', 1, '', { tls }],
    ['e', 1, '', { tls: { ca: PEM, rejectUnauthorized: false } }],
    ['e', 1, '', { tls: { ca: PEM, servername: 'n' } }],
    [null, null, '', group],
    [null, null, '', { ...group, name: 'other' }],
    [null, null, '', { ...group, sentinelPassword: 'pw' }],
    [null, null, '', { ...group, sentinelUsername: 'me' }],
    [null, null, '', { ...group, username: 'me' }],
    [null, null, '', { cluster: [{ host: 'a', port: 26379 }] }],
  ];
  for (let round = 0; round < 2; round++) {
    assert.equal(new Set(different.map((one) => handle(...one))).size, different.length);
  }
  // One instance with changing options.
  const options = { db: 1 };
  const reservation = make('e', 1, '', options);
  const before = reservation._init_redis();
  options.db = 2;
  assert.notEqual(reservation._init_redis(), before);
  options.db = 1;
  assert.equal(reservation._init_redis(), before);
});

test('a handle and its password are freed when nothing references the handle', async (t) => {
  const code = `
    const ReserveResource = require('./index.js');
    const { setImmediate: turn } = require('node:timers/promises');
    const handle = (password) => new ReserveResource('me', 'e', 1, 500, 2, false, password)._init_redis();
    const secret = (number) => ['se', 'cret ', number, '.'].join('');
    const collect = async () => {
      for (let round = 0; round < 5; round++) {
        await turn();
        gc();
      }
    };
    (async () => {
      const kept = handle(secret('kept'));
      handle(secret('anchored')).ref();
      const gone = [];
      for (let number = 0; number < 100; number++) gone.push(new WeakRef(handle(secret(number))));
      handle('the last');
      await collect();
      const alive = gone.filter((one) => one.deref() !== undefined).length;
      const same = handle(secret('kept')) === kept;
      // Found again, although only the event loop referenced it.
      handle(secret('anchored')).unref();
      handle('the last');
      await collect();
      let text = '';
      for await (const chunk of require('node:v8').getHeapSnapshot()) text += chunk;
      process.send({ alive, same, found: text.match(/secret \\w+\\./g) });
      process.disconnect();
    })();`;
  const child = startChild(t, { code }, { execArgv: ['--expose-gc'] });
  const { alive, same, found } = await child.message({}, { timeout: 30000 });
  assert.deepEqual([alive, same], [0, true]);
  assert.deepEqual([...new Set(found)], ['secret kept.']);
  assert.deepEqual(await child.exit(), { code: 0, signal: null });
});

test('without WeakRef, some dozens of handles are kept', async (t) => {
  const code = `
    delete globalThis.WeakRef;
    const ReserveResource = require('./index.js');
    const handle = (password) => new ReserveResource('me', 'e', 1, 500, 2, false, password)._init_redis();
    const first = handle('first');
    for (let number = 0; number < 20; number++) handle(String(number));
    const few = handle('first') === first;
    for (let number = 0; number < 200; number++) handle(String(number));
    process.send({ few, many: handle('first') === first });
    process.disconnect();`;
  const child = startChild(t, { code });
  assert.deepEqual(await child.message(), { few: true, many: false });
});

test('quit passes the fields of the connection, and no others', async () => {
  const options = { db: 2, tls: { ca: PEM }, key_prefix: 'x', max_hold: 5, min_replicas: 1 };
  const tls = { ca: PEM, reject_unauthorized: true };
  for (const [given, expected] of [
    [
      ['e', 1, 'pw'],
      ['e', 1, 'pw', {}],
    ],
    [
      ['redis://me@e:1?max_hold=5', null, 'pw', options],
      ['e', 1, 'pw', { username: 'me', db: 2, tls }],
    ],
    [
      ['/r.sock', 5],
      ['/r.sock', 0, '', {}],
    ],
    [
      [null, null, '', { cluster: [{ host: 'a' }] }],
      ['', 0, '', { cluster: [{ host: 'a', port: 6379 }] }],
    ],
  ]) {
    const told = await callsOf(() =>
      make(...given)
        ._init_redis()
        .quit(),
    );
    assert.deepEqual(told, [['disconnect', ...expected]]);
  }
});

test('tls-unverified is logged once for each endpoint, by the first instance with a log', async () => {
  const warned = [];
  const log = {
    infoD: () => {},
    errorD: () => {},
    warnD: (title, { level, host, port }) => warned.push([title, level, host, port]),
  };
  const tls = { ca: PEM, rejectUnauthorized: false };
  const lock = (...given) => make(...given).lock('job');
  await lock('e', 1, '', { tls: { ca: PEM } }, log);
  await lock('e', 1, '', { tls }, false);
  assert.deepEqual(warned, []);
  await lock('e', 1, '', { tls }, log);
  await lock('rediss://e:1', null, '', { tls }, log);
  await lock('e', 2, '', { tls }, log);
  await lock(null, null, '', { tls, cluster: [{ host: 'e', port: 2 }, { host: '::1' }] }, log);
  assert.deepEqual(warned, [
    ['tls-unverified', 'warning', 'e', 1],
    ['tls-unverified', 'warning', 'e', 2],
    ['tls-unverified', 'warning', '::1', 6379],
  ]);
});

test('a value that only the native side can check is refused as an argument', async (t) => {
  const { learn } = Native.prototype;
  t.after(() => (Native.prototype.learn = learn));
  Native.prototype.learn = () => {
    throw Object.assign(new Error('tls.key must be a key'), { code: 'InvalidArg' });
  };
  await assert.rejects(make('e', 1).lock('job'), {
    name: 'InvalidArgumentError',
    code: 'ERR_INVALID_ARG_VALUE',
    message: 'tls.key must be a key',
  });
});

const PEM = '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----';
