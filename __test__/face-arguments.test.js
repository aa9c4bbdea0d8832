// Bad input: one clear error in the callback or the promise, asynchronous, with a code and the name of what is wrong; nothing
// is sent, nothing is thrown. A listening socket takes the place of redis, and counts the connections.
'use strict';

const assert = require('node:assert/strict');
const { once } = require('node:events');
const net = require('node:net');
const { after, before, test } = require('node:test');
const ReserveResource = require('../index.js');

const SECRET = 'p4ssw0rd';
let connections = 0;
let server;

before(async () => {
  server = net.createServer((socket) => {
    connections += 1;
    socket.destroy();
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
});

after(() => {
  server.close();
  assert.equal(connections, 0, 'something was sent');
});

function make(fields = {}, options = undefined) {
  const { port } = server.address();
  const reservation = new ReserveResource('worker', '127.0.0.1', port, 0, 2, false, SECRET, options);
  return Object.assign(reservation, fields);
}

/** The error that a call gives its callback. It must come asynchronously and once, and the promise must give the same. */
async function failure(call) {
  const answers = [];
  let returned = false;
  await new Promise((resolve) => {
    const value = call((...answer) => {
      assert.ok(returned, 'answered before the call returned');
      answers.push(answer);
      setImmediate(resolve);
    });
    assert.equal(value, undefined);
    returned = true;
  });
  assert.equal(answers.length, 1);
  const [[error, ...rest]] = answers;
  assert.deepEqual(rest, []);
  const promised = await call().then(assert.fail, (reason) => reason);
  assert.equal(promised.code, error.code);
  assert.equal(promised.message, error.message);
  assert.ok(error instanceof ReserveResource.InvalidArgumentError);
  assert.ok(error instanceof ReserveResource.ReservationError && error instanceof Error);
  assert.ok(!JSON.stringify([error.message, error, error.stack]).includes(SECRET), error.message);
  return error;
}

const thrower = {
  toString() {
    throw new Error('no text');
  },
};

for (const [what, resource, code] of [
  ['undefined', undefined, 'ERR_INVALID_ARG_TYPE'],
  ['null', null, 'ERR_INVALID_ARG_TYPE'],
  ['a function', () => {}, 'ERR_INVALID_ARG_TYPE'],
  ['a symbol', Symbol('x'), 'ERR_INVALID_ARG_TYPE'],
  ['a plain object', { password: SECRET }, 'ERR_INVALID_ARG_TYPE'],
  ['the text of one', '[object Object]', 'ERR_INVALID_ARG_TYPE'],
  ['an object without text', Object.create(null), 'ERR_INVALID_ARG_TYPE'],
  ['an object whose text throws', thrower, 'ERR_INVALID_ARG_TYPE'],
  ['a promise', Promise.resolve('x'), 'ERR_INVALID_ARG_TYPE'],
  ['a map', new Map(), 'ERR_INVALID_ARG_TYPE'],
  ['the empty string', '', 'ERR_INVALID_ARG_VALUE'],
  ['an empty array', [], 'ERR_INVALID_ARG_VALUE'],
  ['an empty buffer', Buffer.alloc(0), 'ERR_INVALID_ARG_VALUE'],
]) {
  test(`resource: ${what} is refused`, async () => {
    const reservation = make();
    for (const call of [
      (callback) => reservation.lock(resource, callback),
      (callback) => reservation.wait_until_lock(resource, callback),
    ]) {
      const error = await failure(call);
      assert.equal(error.code, code);
      assert.match(error.message, /^resource /);
    }
    assert.equal(reservation.is_held(resource), false);
    // A function in this place is release's callback.
    if (typeof resource === 'function') return;
    const error = await failure((callback) => reservation.release(resource, callback || null));
    assert.equal(error.code, code);
  });
}

for (const [field, value, code, shown] of [
  ['lock_ttl', undefined, 'ERR_INVALID_ARG_VALUE', /undefined/],
  ['lock_ttl', null, 'ERR_INVALID_ARG_VALUE', /null/],
  ['lock_ttl', 0, 'ERR_INVALID_ARG_VALUE', /it is 0/],
  ['lock_ttl', -5, 'ERR_INVALID_ARG_VALUE', /-5/],
  ['lock_ttl', NaN, 'ERR_INVALID_ARG_VALUE', /NaN/],
  ['lock_ttl', Infinity, 'ERR_INVALID_ARG_VALUE', /Infinity/],
  ['lock_ttl', '', 'ERR_INVALID_ARG_VALUE', /""/],
  ['lock_ttl', '30s', 'ERR_INVALID_ARG_VALUE', /"30s"/],
  ['lock_ttl', [30], 'ERR_INVALID_ARG_VALUE', /Array/],
  ['lock_ttl', true, 'ERR_INVALID_ARG_VALUE', /true/],
  ['lock_ttl', Symbol('t'), 'ERR_INVALID_ARG_VALUE', /Symbol\(t\)/],
  ['port', 70000, 'ERR_INVALID_ARG_VALUE', /70000/],
  ['port', -1, 'ERR_INVALID_ARG_VALUE', /-1/],
  ['port', 1.5, 'ERR_INVALID_ARG_VALUE', /1\.5/],
  ['port', '6379a', 'ERR_INVALID_ARG_VALUE', /"6379a"/],
  ['port', '0', 'ERR_INVALID_ARG_VALUE', /"0"/],
  ['port', `redis://:${SECRET}@host`, 'ERR_INVALID_ARG_VALUE', /a string of/],
  ['port', {}, 'ERR_INVALID_ARG_TYPE', /Object/],
  ['host', 5, 'ERR_INVALID_ARG_TYPE', /5/],
  ['host', ['h'], 'ERR_INVALID_ARG_TYPE', /Array/],
  ['host', `http://:${SECRET}@host:6379`, 'ERR_INVALID_ARG_VALUE', /redis:\/\//],
  ['host', `user:${SECRET}@host`, 'ERR_INVALID_ARG_VALUE', /URL/],
  ['password', { [SECRET]: SECRET }, 'ERR_INVALID_ARG_TYPE', /object/],
  ['password', Buffer.from(SECRET), 'ERR_INVALID_ARG_TYPE', /object/],
  ['password', true, 'ERR_INVALID_ARG_TYPE', /boolean/],
  ['by', Symbol('b'), 'ERR_INVALID_ARG_TYPE', /symbol/],
  ['by', thrower, 'ERR_INVALID_ARG_TYPE', /text/],
  ['identifier', thrower, 'ERR_INVALID_ARG_TYPE', /text/],
]) {
  test(`${field}: ${typeof value === 'symbol' || value === thrower ? 'no text' : JSON.stringify(value) || value} is refused`, async () => {
    const reservation = make({ [field]: value });
    for (const call of [
      (callback) => reservation.lock('r', callback),
      (callback) => reservation.wait_until_lock('r', callback),
    ]) {
      const error = await failure(call);
      assert.equal(error.code, code);
      assert.ok(
        error.message.startsWith(`${field} must be `) || error.message.startsWith(`${field} must have `),
      );
      assert.match(error.message, shown);
    }
    // Methods that need none of the fields work.
    assert.equal(await reservation.release(), 0);
  });
}

for (const [what, options, message] of [
  ['an unknown one', { max_hodl: 1 }, /"max_hodl" is not an option of the constructor.*max_hold/],
  ['another', { connectTimeout: 1 }, /connect_timeout/],
  ['a third', { timeout_command: 1 }, /command_timeout/],
  ['zero', { max_hold: 0 }, /max_hold must be .*it is 0/],
  ['a text', { command_timeout: 'soon' }, /command_timeout must be .*"soon"/],
  ['NaN', { connect_timeout: NaN }, /connect_timeout must be .*NaN/],
  ['a number in their place', 5000, /options of the constructor must be an object/],
]) {
  test(`constructor options: ${what} is refused by the first call`, async () => {
    const error = await failure((callback) => make({}, options).lock('r', callback));
    assert.match(error.code, /^ERR_INVALID_ARG_(TYPE|VALUE)$/);
    assert.match(error.message, message);
  });
}

for (const [what, options, message] of [
  ['an unknown one', { timout: 1 }, /"timout" is not an option of wait_until_lock.*timeout/],
  ['a negative timeout', { timeout: -1 }, /timeout must be .*-1/],
  ['a text', { timeout: 'soon' }, /timeout must be .*"soon"/],
  ['something else for a signal', { signal: {} }, /signal must be an AbortSignal/],
  ['a controller for its signal', { signal: new AbortController() }, /signal must be an AbortSignal/],
  ['a number in their place', 5000, /options of wait_until_lock must be an object/],
]) {
  test(`wait options: ${what} is refused`, async () => {
    const error = await failure((callback) => make().wait_until_lock('r', options, callback));
    assert.match(error.message, message);
  });
}

test('a callback that is no function rejects the promise', async () => {
  for (const call of [
    () => make().lock('r', {}),
    () => make().wait_until_lock('r', {}, 'callback'),
    () => make().release('r', 5),
    () => make().ensure_reservation('callback'),
  ]) {
    await assert.rejects(call, { code: 'ERR_INVALID_ARG_TYPE', message: /callback .* must be a function/ });
  }
});

test('nothing held: release gives 0, ensure_reservation an error, and redis is not asked', async () => {
  const reservation = make();
  assert.equal(await reservation.release(), 0);
  assert.equal(await reservation.release('r'), 0);
  assert.deepEqual(await new Promise((resolve) => reservation.release((...answer) => resolve(answer))), [
    null,
    0,
  ]);
  await assert.rejects(reservation.ensure_reservation(), { code: 'ERR_RESERVATION_NOT_HELD' });
  await assert.rejects(reservation._ensure_reservation(), { code: 'ERR_RESERVATION_NOT_HELD' });
  assert.equal(await reservation._set_expiration(), false);
});

test('an aborted signal ends a wait before anything is sent', async () => {
  const reason = new Error('not today');
  const controller = new AbortController();
  controller.abort(reason);
  const { signal } = controller;
  await assert.rejects(make().wait_until_lock('r', { signal }), (error) => error === reason);
  const [error] = await new Promise((resolve) =>
    make().wait_until_lock('r', { signal }, (...answer) => resolve(answer)),
  );
  assert.equal(error, reason);
  // A callback would take this reason for success.
  const empty = AbortSignal.abort(null);
  assert.equal(
    await make()
      .wait_until_lock('r', { signal: empty })
      .catch((thrown) => thrown),
    null,
  );
  const [wrapped] = await new Promise((resolve) =>
    make().wait_until_lock('r', { signal: empty }, (...answer) => resolve(answer)),
  );
  assert.equal(wrapped.name, 'AbortError');
  // Any implementation of a signal is accepted.
  const own = { aborted: true, addEventListener() {} };
  await assert.rejects(make().wait_until_lock('r', { signal: own }), {
    name: 'AbortError',
    code: 'ABORT_ERR',
  });
});
