// The errors of calls: whose line their stacks show, and what JSON, a printout and another thread get of them.
'use strict';

const assert = require('node:assert/strict');
const { promisify, inspect } = require('node:util');
const { test } = require('node:test');
const { MessageChannel } = require('node:worker_threads');
const ReserveResource = require('../index.js');
const { abort_error, from_native, make_error } = require('../lib/errors');
const { freePort, startServer } = require('./support/server');
const { ask, askError, makeReservation } = require('./support/reservation');

const PASSWORD = 'p4ssw0rd';
const HERE = __filename.replace(/[.\\]/g, '\\$&');

/** A reservation whose redis refuses connections. */
async function unreachable(t) {
  return makeReservation(t, { host: '127.0.0.1', port: await freePort(), password: PASSWORD }, {});
}

/** Awaits a call, as a worker does, and gives its error. */
async function my_worker(call) {
  try {
    await call();
  } catch (error) {
    return error;
  }
  throw new Error('it did not fail');
}

test('the stack of an awaited redis error has the lines that await it', async (t) => {
  const reservation = await unreachable(t);
  const calls = {
    lock: () => reservation.lock('job'),
    wait_until_lock: () => reservation.wait_until_lock('job'),
  };
  for (const [title, call] of Object.entries(calls)) {
    const error = await my_worker(async () => {
      await call();
    });
    assert.equal(error.code, 'ERR_REDIS_CONNECTION', title);
    assert.match(error.stack, /^RedisConnectionError: Redis connection to /);
    assert.match(error.stack, new RegExp(`at async my_worker \\(${HERE}:`), error.stack);
  }
});

test('the stack has the awaiting lines also for Promise.all, a release, a renewal and a timeout', async (t) => {
  const server = await startServer(t);
  const [holder, other] = [makeReservation(t, server), makeReservation(t, server)];
  await holder.lock('job');
  const named = new RegExp(`at async my_worker \\(${HERE}:`);
  const late = await my_worker(async () => {
    await other.wait_until_lock('job', { timeout: 20 });
  });
  assert.equal(late.code, 'ERR_RESERVATION_TIMEOUT');
  assert.match(late.stack, named);
  await server.kill();
  const all = await my_worker(async () => {
    await Promise.all([other.lock('a'), other.lock('b')]);
  });
  assert.match(all.stack, /at async Promise\.all \(index [01]\)\n/);
  assert.match(all.stack, named);
  for (const method of ['ensure_reservation', 'release']) {
    const error = await my_worker(async () => {
      await holder[method]();
    });
    assert.match(error.code, /^ERR_RE/);
    assert.match(error.stack, named, method);
  }
});

// Thrown deep inside: the limit of ten frames must not hide the caller's.
const WRONG = {
  resource: [{}, undefined],
  option: [{ options: { dbb: 1 } }],
  'option, nested': [{ options: { tls: { ca: 5 } } }],
  ttl: [{ ttl: 'abc' }],
  port: [{ port: 99999 }],
  URL: [{ host: `redis://u:${PASSWORD}@h:x` }],
};

for (const [title, [{ host = '127.0.0.1', port = 1, ...settings }, ...names]] of Object.entries(WRONG)) {
  test(`a wrong ${title}: the stack has the line of the call, for promises and callbacks`, async (t) => {
    const reservation = makeReservation(t, { host, port }, settings);
    const [name] = names.length > 0 ? names : ['job'];
    for (const error of [
      await my_worker(() => reservation.lock(name)),
      await askError((callback) => reservation.lock(name, callback)),
      await my_worker(() => reservation.wait_until_lock(name)),
    ]) {
      assert.ok(error instanceof ReserveResource.InvalidArgumentError);
      assert.match(error.stack, new RegExp(HERE), error.stack);
      assert.ok(!error.stack.includes(PASSWORD));
    }
  });
}

test('the stack has the line of the call also for a wrong callback, a wrong option of a wait, and a renewal with nothing held', async (t) => {
  const reservation = await unreachable(t);
  for (const call of [
    () => reservation.lock('job', 'no function'),
    () => reservation.wait_until_lock('job', { timeout: 'long' }),
    () => reservation.ensure_reservation(),
    () => reservation.release({}),
  ]) {
    assert.match((await my_worker(call)).stack, new RegExp(HERE), String(call));
  }
});

test('a redis error in a callback has no frames of the caller', async (t) => {
  const reservation = await unreachable(t);
  const error = await askError((callback) => reservation.lock('job', callback));
  assert.match(error.stack, /^RedisConnectionError: .*\n {4}at /);
  const promised = await my_worker(() => promisify(reservation.lock.bind(reservation))('job'));
  assert.equal(promised.code, 'ERR_REDIS_CONNECTION');
});

test('a failed call whose promise is ignored ends no process, and the reason of a signal keeps its own stack', async (t) => {
  const server = await startServer(t);
  await server.client().set('reservation-job', 'somebody');
  const reservation = makeReservation(t, server);
  const controller = new AbortController();
  const reason = new Error('enough');
  const { stack } = reason;
  const waiting = reservation.wait_until_lock('job', { signal: controller.signal });
  controller.abort(reason);
  assert.equal(await my_worker(() => waiting), reason);
  assert.equal(reason.stack, stack);
  const bare = (await unreachable(t)).lock('job');
  await new Promise((resolve) => bare.then(resolve, resolve));
});

test('JSON has name, code and message, the fields and the causes, and no password', async (t) => {
  const reservation = await unreachable(t);
  const error = await my_worker(() => reservation.lock('job'));
  const { message, host, port } = error;
  const cause = { name: 'Error', code: 'ECONNREFUSED', message: `connect ECONNREFUSED 127.0.0.1:${port}` };
  const wanted = { name: 'RedisConnectionError', code: 'ERR_REDIS_CONNECTION', message, host, port, cause };
  assert.deepEqual(JSON.parse(JSON.stringify(error)), wanted);
  const lost = make_error('ERR_RESERVATION_LOST', 'gone', {
    key: 'k',
    val: 'v',
    holder: 'h',
    lost: ['k'],
    released: 2,
  });
  assert.deepEqual(JSON.parse(JSON.stringify({ lost })).lost, {
    name: 'ReservationLostError',
    code: 'ERR_RESERVATION_LOST',
    message: 'gone',
    key: 'k',
    val: 'v',
    holder: 'h',
    released: 2,
    lost: ['k'],
  });
  for (const text of [JSON.stringify(error), inspect(error), inspect(error.toJSON()), error.stack]) {
    assert.ok(text.includes('ECONNREFUSED'));
    assert.ok(!text.includes(PASSWORD));
  }
});

test('a replacer of JSON.stringify recognises an error', () => {
  const error = make_error('ERR_REDIS_REPLY', 'OOM');
  const replacer = (_key, value) => (value instanceof Error ? value.toString() : value);
  assert.equal(JSON.stringify({ err: error }, replacer), '{"err":"Error: OOM"}');
});

test('of foreign causes, JSON has only name, code and message; a circular chain of causes ends', () => {
  const cause = Object.assign(new TypeError('inner'), { code: 'E', key: 'PRIVATE KEY', host: 'x' });
  const error = make_error('ERR_INVALID_ARG_TYPE', 'outer', { cause });
  assert.deepEqual(JSON.parse(JSON.stringify(error)).cause, {
    name: 'TypeError',
    code: 'E',
    message: 'inner',
  });
  assert.equal(error.cause, cause);
  cause.cause = error;
  assert.ok(JSON.stringify(error).length < 1000);
  assert.equal(JSON.parse(JSON.stringify(error)).cause.cause.message, 'outer');
  const strange = Object.assign(new Error('inner'), { code: 10n });
  const about = make_error('ERR_INVALID_ARG_TYPE', 'outer', { cause: strange });
  assert.deepEqual(JSON.parse(JSON.stringify(about)).cause, { name: 'Error', message: 'inner' });
  const odd = make_error('ERR_INVALID_ARG_TYPE', 'outer', { cause: { token: 's3cret' } });
  assert.ok(!JSON.stringify(odd).includes('s3cret'));
  const aborted = JSON.parse(JSON.stringify(abort_error(new Error('why'))));
  assert.deepEqual([aborted.name, aborted.code, aborted.cause.message], ['AbortError', 'ABORT_ERR', 'why']);
});

test('postMessage takes the result of toJSON whole, and an error with its message', async (t) => {
  const cause = { code: 'ECONNRESET', message: 'reset' };
  const error = from_native({ code: 'ERR_REDIS_CONNECTION', message: 'away', host: 'h', port: 1, cause });
  const { port1, port2 } = new MessageChannel();
  const received = new Promise((resolve) => port2.once('message', resolve));
  t.after(() => port1.close());
  port1.postMessage({ error, plain: error.toJSON() });
  const { error: copy, plain } = await received;
  assert.equal(copy.message, 'away');
  assert.deepEqual(plain, JSON.parse(JSON.stringify(error)));
  assert.equal(plain.cause.code, 'ECONNRESET');
});

test('a cause from the native side has no JavaScript frames', () => {
  const { cause } = from_native({ code: 'ERR_REDIS_CONNECTION', message: 'm', cause: { message: 'reset' } });
  assert.equal(cause.stack, 'Error: reset');
  assert.match(inspect(cause), /reset/);
});

test('a callback gets the same error as a promise', async (t) => {
  const reservation = await unreachable(t);
  const [error] = await ask((callback) => reservation.lock('job', callback));
  assert.deepEqual(Object.keys(error), ['code', 'host', 'port']);
});

test('an error that another call passes on keeps the stack of its first caller', async (t) => {
  const reservation = await unreachable(t);
  const first = await my_worker(() => reservation.lock(undefined));
  const { stack } = first;
  reservation._init_redis = () => {
    throw first;
  };
  assert.equal(await my_worker(() => reservation.lock('job')), first);
  assert.equal(first.stack, stack);
});
