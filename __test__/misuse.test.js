// Misuse: each mistake gives an error with the remedy, and a log line where callers usually ignore the promise; nothing is
// sent.
'use strict';

const assert = require('node:assert/strict');
const { test } = require('node:test');
const util = require('node:util');
const { startChild } = require('./support/child');
const { countCommands } = require('./support/commands');
const {
  ReserveResource,
  callingMethods,
  makeReservation,
  ask,
  askError,
  keepLog,
} = require('./support/reservation');
const { startServer } = require('./support/server');
const { within } = require('./support/wait');

const TYPE = 'ERR_INVALID_ARG_TYPE';
const VALUE = 'ERR_INVALID_ARG_VALUE';
const nowhere = { host: '127.0.0.1', port: 1 };

/** The error that a callback gets, in whatever place it was passed. */
function heard(start) {
  return within(
    5000,
    new Promise((resolve, reject) => {
      start((...args) => (args.length === 1 && args[0] instanceof Error ? resolve(args[0]) : reject(args)));
    }),
    'the callback',
  );
}

for (const [what, call, code, pattern] of [
  ['lock(callback)', (r, done) => r.lock(done), TYPE, /^resource .*function.*before the callback/],
  [
    'wait_until_lock(callback)',
    (r, done) => r.wait_until_lock(done),
    TYPE,
    /^resource .*before the callback/,
  ],
  [
    'lock(resource, options, callback)',
    (r, done) => r.lock('a', { timeout: 5 }, done),
    TYPE,
    /lock takes no options.*wait_until_lock/,
  ],
  [
    'lock(resource, undefined, callback)',
    (r, done) => r.lock('a', undefined, done),
    TYPE,
    /it is undefined\. lock takes no options/,
  ],
  [
    'wait_until_lock(resource, milliseconds, callback)',
    (r, done) => r.wait_until_lock('a', 5000, done),
    TYPE,
    /must be an object; they are 5000\. Pass \{ timeout: 5000 \}/,
  ],
  [
    'wait_until_lock(resource, its text, callback)',
    (r, done) => r.wait_until_lock('a', '5000', done),
    TYPE,
    /Pass \{ timeout: 5000 \}/,
  ],
  [
    'wait_until_lock(resource, signal, callback)',
    (r, done) => r.wait_until_lock('a', new AbortController().signal, done),
    TYPE,
    /they are a signal\. Pass \{ signal \}/,
  ],
  [
    'wait_until_lock(resource, array, callback)',
    (r, done) => r.wait_until_lock('a', [], done),
    TYPE,
    /must be an object/,
  ],
  [
    'wait_until_lock(resource, callback, options)',
    (r, done) => r.wait_until_lock('a', done, { timeout: 5 }),
    TYPE,
    /options .* come before its callback/,
  ],
  [
    'wait_until_lock(options, callback)',
    (r, done) => r.wait_until_lock({ timeout: 5 }, done),
    TYPE,
    /^resource /,
  ],
  ['lock(NaN, callback)', (r, done) => r.lock(NaN, done), VALUE, /^resource cannot be NaN/],
  ['lock(an array of it, callback)', (r, done) => r.lock([NaN], done), VALUE, /^resource cannot be NaN/],
  [
    'lock(no date, callback)',
    (r, done) => r.lock(new Date(NaN), done),
    VALUE,
    /^resource cannot be Invalid Date/,
  ],
  ['wait_until_lock(NaN, callback)', (r, done) => r.wait_until_lock(NaN, done), VALUE, /NaN/],
  [
    'release(true, callback)',
    (r, done) => r.release(true, done),
    TYPE,
    /name of a resource .*\.then\(\(\) => reservation\.release\(\)\)/,
  ],
]) {
  test(`${what}: the callback gets an error with the remedy`, async (t) => {
    const server = await startServer(t);
    const client = server.client();
    await client.ping();
    const log = keepLog();
    const reservation = makeReservation(t, server, { log });
    const { calls } = await countCommands(client, async () => {
      const error = await heard((done) => call(reservation, done));
      assert.equal(error.code, code, error.message);
      assert.ok(error instanceof ReserveResource.InvalidArgumentError);
      assert.match(error.message, pattern);
    });
    assert.deepEqual(calls, {});
    if (!what.startsWith('release')) assert.equal(log.of('reservation-failed').length, 1);
  });
}

test('a mistake is logged where callers usually ignore the promise', async (t) => {
  const log = keepLog();
  const reservation = makeReservation(t, nowhere, { log });
  reservation.lock('job', { timeout: 5 });
  await assert.rejects(reservation.lock('job', 'done'), { code: TYPE, message: /callback of lock/ });
  assert.equal(log.of('reservation-failed').length, 2);
  assert.match(log.events[0].err, /lock takes no options/);
  reservation.ensure_reservation(5);
  await assert.rejects(reservation.ensure_reservation({}), { code: TYPE, message: /ensure_reservation/ });
  assert.equal(log.of('expire-set-failed').length, 2);
});

test('a detached method gives an error that says so, in the callback and in the promise', async (t) => {
  const before = Reflect.ownKeys(globalThis);
  const server = await startServer(t);
  const reservation = makeReservation(t, server);
  await reservation.lock('held');
  const warnings = [];
  const listen = (warning) => warnings.push(warning);
  process.on('warning', listen);
  t.after(() => process.off('warning', listen));
  for (const method of callingMethods) {
    const { [method]: alone } = reservation;
    const object = { alone };
    const pattern = new RegExp(
      `^${method} was called without its instance.*reservation\\.${method}\\.bind`,
      's',
    );
    for (const call of [
      (...args) => alone(...args),
      (...args) => object.alone(...args),
      (...args) => alone.call(process, ...args),
      (...args) => ReserveResource.lock === undefined && alone.call(ReserveResource, ...args),
    ]) {
      const args = /lock/.test(method) ? ['job'] : [];
      const error = await askError((done) => call(...args, done));
      assert.equal(error.code, TYPE);
      assert.match(error.message, pattern);
      await assert.rejects(call(...args), { code: TYPE, message: pattern });
    }
  }
  for (const method of ['is_held', '_init_redis']) {
    const { [method]: alone } = reservation;
    assert.throws(() => alone('held'), { code: TYPE, message: new RegExp(`^${method} was called`) });
  }
  assert.equal(reservation.is_held('held'), true);
  assert.deepEqual(Reflect.ownKeys(globalThis), before, 'nothing is left on the global object');
  assert.deepEqual(await server.client().keys('*'), ['reservation-held']);
  // Warnings of the methods whose promises code for 0.4.0 ignores.
  assert.deepEqual(
    new Set(warnings.map(({ message }) => message.split(' ')[0])),
    new Set(callingMethods.filter((method) => !/release|wait/.test(method))),
  );
});

test('a detached method passed to a timer or a loop warns, and ends no process that went on with 0.4.0', async (t) => {
  const make = `const ReserveResource = require('./index.js');
    const reservation = new ReserveResource('w', '127.0.0.1', 1, 0, 30, false);`;
  const harmless = `${make} setTimeout(reservation.ensure_reservation, 1); ['job'].forEach(reservation.lock);`;
  const child = startChild(t, { code: harmless });
  assert.equal((await child.exit()).code, 0);
  assert.match(child.stderr, /ensure_reservation was called without its instance/);
  assert.match(child.stderr, /lock was called without its instance/);
  const loud = startChild(t, { code: `${make} setTimeout(reservation.release, 1);` });
  assert.equal((await loud.exit()).code, 1);
  assert.match(loud.stderr, /release was called without its instance/);
});

test('then(reservation.release): release refuses the value of the promise', async (t) => {
  const server = await startServer(t);
  const reservation = makeReservation(t, server);
  const release = reservation.release.bind(reservation);
  await assert.rejects(reservation.lock('job').then(release), {
    code: TYPE,
    message: /it is true.*\.then\(\(\) =>/,
  });
  assert.equal(reservation.held, true);
  await assert.rejects(reservation.wait_until_lock('job').then(release), {
    code: TYPE,
    message: /such as "job"; it is the name of a key, "reservation-job".*\.then\(\(\) =>/,
  });
  assert.equal(reservation.held, true);
  assert.equal(await reservation.release('other'), 0, 'what is not held is no mistake');
  assert.equal(await reservation.release('job'), 1);
  assert.equal(await reservation.release('reservation-job'), 0);
  // Names that look like a key, and are held.
  for (const name of [true, 'reservation-job']) {
    await reservation.lock('job');
    await reservation.lock(name);
    assert.equal(await reservation.release(name), 1);
    assert.equal(reservation.is_held('job'), true);
    await reservation.release();
  }
});

const pem = '-----BEGIN PRIVATE KEY-----hunter2';

for (const [what, log] of [
  ['tls', { tls: true }],
  ['a database and a user', { db: 1, username: 'me' }],
  ['a private key', { tls: { key: pem } }],
  ['a password', { password: 'hunter2' }],
  ['all that the constructor takes', { by: 'w', host: 'h', port: 1, lock_ttl: 5, password: 'hunter2' }],
  ['the options of sentinels', { sentinels: [{ host: 'a' }], name: 'mymaster', sentinelPassword: 'hunter2' }],
]) {
  test(`${what} in the place of the log: the error shows both forms, and no line contains a secret`, async (t) => {
    const server = await startServer(t);
    const client = server.client();
    await client.ping();
    const lines = [];
    t.mock.method(console, 'log', (line) => lines.push(line));
    const reservation = makeReservation(t, server, { log });
    const { calls } = await countCommands(client, async () => {
      for (const call of [
        (done) => reservation.lock('job', done),
        (done) => reservation.wait_until_lock('job', done),
      ]) {
        const error = await askError(call);
        assert.equal(error.code, VALUE);
        assert.match(error.message, /^log must not be options/);
        assert.match(error.message, /new ReserveResource\(by, .*, password, options\)/);
        assert.match(error.message, /new ReserveResource\(\{ by, .*\.\.\.options \}\)/);
      }
    });
    assert.deepEqual(calls, {});
    assert.equal(lines.length, 2);
    for (const text of [...lines, util.inspect(reservation, { depth: 9 }), JSON.stringify(reservation)]) {
      assert.ok(!text.includes('hunter2'), text);
    }
  });
}

test('an object with other names is metadata', async (t) => {
  const server = await startServer(t);
  const lines = [];
  t.mock.method(console, 'log', (line) => lines.push(JSON.parse(line)));
  for (const log of [
    {},
    { team: 'nightly' },
    { name: 'nightly' },
    { host: 'web-1', name: 'nightly' },
    { db: 'orders', team: 'x' },
    Object.create({ tls: true }),
  ]) {
    const reservation = makeReservation(t, server, { log });
    assert.equal(await reservation.lock('job'), true);
    assert.equal(await reservation.release(), 1);
    const { team, name } = lines.at(-1);
    assert.deepEqual([team, name], [log.team, log.name]);
  }
});

for (const log of ['hunter2', 5, true, Symbol('hunter2')]) {
  test(`a ${typeof log} in the place of the log is an error`, async (t) => {
    const reservation = makeReservation(t, nowhere, { log });
    t.mock.method(console, 'log', () => {});
    const error = await askError((done) => reservation.lock('job', done));
    assert.equal(error.code, TYPE);
    assert.match(error.message, new RegExp(`^log must be .* of type ${typeof log}`));
    assert.ok(!error.message.includes('hunter2'));
  });
}

test('options in the place of the password, or one object beside other arguments, are an error', async (t) => {
  const lines = [];
  t.mock.method(console, 'log', (line) => lines.push(line));
  const early = new ReserveResource('w', '127.0.0.1', 1, 0, 30, false, { db: 1 });
  await assert.rejects(early.lock('job'), {
    code: TYPE,
    message: /^password must be .* Options come behind it/,
  });
  const both = new ReserveResource({ by: 'w', password: 'hunter2' }, '127.0.0.1', 1, 0, 30);
  await assert.rejects(both.lock('job'), {
    code: TYPE,
    message: /^by must be the worker's name.*one object alone/,
  });
  assert.equal(lines.length, 1);
  assert.ok(!lines[0].includes('hunter2'), lines[0]);
});

test('members of a polluted Object.prototype are neither options of a wait nor arguments', async (t) => {
  const server = await startServer(t);
  t.after(() => ['timeout', 'signal', 'host', 'tls'].forEach((name) => delete Object.prototype[name]));
  Object.defineProperty(Object.prototype, 'timeout', { value: 'never', configurable: true, writable: true });
  Object.defineProperty(Object.prototype, 'signal', { value: 'SIGTERM', configurable: true, writable: true });
  Object.defineProperty(Object.prototype, 'host', { value: 'elsewhere', configurable: true, writable: true });
  const reservation = new ReserveResource({ by: 'w', port: server.port, lock_ttl: 30, log: false });
  assert.equal(reservation.host, undefined);
  assert.deepEqual(await ask((done) => reservation.wait_until_lock('job', {}, done)), [
    null,
    'reservation-job',
  ]);
  assert.equal(await reservation.release(), 1);
});
