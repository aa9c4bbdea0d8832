// Bad arguments, fields and options: one clear error in the callback or the promise, nothing thrown, nothing sent.
'use strict';

const assert = require('node:assert/strict');
const { test } = require('node:test');
const util = require('node:util');
const { countCommands } = require('./support/commands');
const { ReserveResource, makeReservation, ask, askError } = require('./support/reservation');
const { startServer } = require('./support/server');

const TYPE = 'ERR_INVALID_ARG_TYPE';
const VALUE = 'ERR_INVALID_ARG_VALUE';

const hostile = {
  toString() {
    throw new Error('no text');
  },
};

const resources = [
  [undefined, TYPE],
  [null, TYPE],
  [() => {}, TYPE],
  [function named() {}, TYPE],
  [Symbol('s'), TYPE],
  [{}, TYPE],
  [{ name: 'job' }, TYPE],
  [Object.create(null), TYPE],
  [Promise.resolve('job'), TYPE],
  [hostile, TYPE],
  ['[object Object]', TYPE],
  ['', VALUE],
  [[], VALUE],
  [Buffer.alloc(0), VALUE],
];

/** [field, value, code, what the message says beside the field]. */
const settings = [
  ...[undefined, null, 0, -1, NaN, Infinity, -Infinity, '', ' ', 'soon', '30s', {}, [], true, 10n].map(
    (value) => ['lock_ttl', value, VALUE, /seconds/],
  ),
  ...[-1, 65536, 6379.5, NaN, 'redis', '6379x', Infinity]
    .map((value) => ['port', value, VALUE, /65535/])
    .filter(
      ([, value]) => !Number.isNaN(value), // falsy: the default
    ),
  ...[{}, [1], true, Symbol('p')].map((value) => ['port', value, TYPE, /6379/]),
  ...[1, {}, ['a'], true, Symbol('h')].map((value) => ['host', value, TYPE, /127\.0\.0\.1/]),
  ...['http://user:hunter2@example.com', 'user:hunter2@example.com'].map((value) => [
    'host',
    value,
    VALUE,
    /URL/,
  ]),
  ...[{}, ['a'], true, Symbol('p'), () => {}].map((value) => ['password', value, TYPE, /string/]),
  ['by', Symbol('b'), TYPE, /symbol/],
  ['by', hostile, TYPE, /text/],
];

const options = [
  [{ connect_timeuot: 1 }, VALUE, /connect_timeuot.*connect_timeout/s],
  [{ commandTimeout: 1 }, VALUE, /commandTimeout.*command_timeout/s],
  [{ maxhold: 1 }, VALUE, /maxhold.*max_hold/s],
  [{ command_timeout: 0 }, VALUE, /command_timeout.*milliseconds.*0/s],
  [{ command_timeout: -5 }, VALUE, /command_timeout.*-5/s],
  [{ connect_timeout: 'soon' }, VALUE, /connect_timeout.*soon/s],
  [{ max_hold: NaN }, VALUE, /max_hold.*NaN/s],
  [{ max_hold: {} }, VALUE, /max_hold/s],
  ['fast', TYPE, /fast/],
  [5000, TYPE, /5000/],
];

const waitOptions = [
  [{ timeuot: 1 }, VALUE, /timeuot.*timeout/s],
  [{ singal: AbortSignal.abort() }, VALUE, /singal.*signal/s],
  [{ timeout: -1 }, VALUE, /timeout.*-1/s],
  [{ timeout: 'soon' }, VALUE, /timeout.*soon/s],
  [{ timeout: NaN }, VALUE, /timeout.*NaN/s],
  [{ signal: {} }, TYPE, /signal/],
  [{ signal: 'abort' }, TYPE, /signal.*abort/s],
  ['soon', TYPE, /soon/],
  [5000, TYPE, /5000/],
];

/** Both shapes of a call: each gives one error, of this code, with this in its message. */
async function refused(calls, code, pattern, label) {
  for (const [withCallback, withPromise] of calls) {
    const errors = [await askError(withCallback), await withPromise().then(assert.fail, (error) => error)];
    for (const error of errors) {
      assert.ok(error instanceof ReserveResource.ReservationError, label);
      assert.equal(error.code, code, `${label}: ${error.message}`);
      assert.match(error.message, pattern, label);
      assert.ok(!util.inspect(error).includes('hunter2'), 'no password');
    }
  }
}

function both(method, reservation, ...args) {
  return [(done) => reservation[method](...args, done), () => reservation[method](...args)];
}

/** Runs the refusals. The server must receive no command. */
async function silently(t, work) {
  const server = await startServer(t);
  const client = server.client();
  await client.ping();
  const { calls } = await countCommands(client, () => work(server));
  assert.deepEqual(calls, {});
}

const show = (value) => (value === hostile ? 'a hostile object' : util.inspect(value));

test('resources without a meaningful text', async (t) => {
  await silently(t, async (server) => {
    const reservation = makeReservation(t, server);
    for (const [resource, code] of resources) {
      const calls = [both('lock', reservation, resource), both('wait_until_lock', reservation, resource)];
      await refused(calls, code, /resource/, show(resource));
      assert.equal(reservation.is_held(resource), false);
    }
    // release(undefined) cannot be distinguished from release(). Every other value is checked.
    for (const [resource, code] of resources.filter(
      ([value]) => value != null && typeof value !== 'function',
    )) {
      await refused([both('release', reservation, resource)], code, /resource/, show(resource));
    }
  });
});

test('the message names what was received', async (t) => {
  await silently(t, async (server) => {
    const reservation = makeReservation(t, server);
    for (const [resource, said] of [
      [undefined, 'undefined'],
      [null, 'null'],
      [{ name: 'job' }, 'Object'],
      [Symbol('a symbol'), 'symbol'],
      [function named() {}, 'function'],
      [Promise.resolve(), 'Promise'],
    ]) {
      const error = await askError((done) => reservation.lock(resource, done));
      assert.ok(error.message.includes(said), `${error.message} says ${said}`);
    }
  });
});

for (const [index, [field, value, code, pattern]] of settings.entries()) {
  test(`field ${index}: ${field} ${show(value)}`, async (t) => {
    await silently(t, async (server) => {
      const reservation = makeReservation(t, server);
      reservation[field] = value;
      const calls = [both('lock', reservation, 'job'), both('wait_until_lock', reservation, 'job')];
      await refused(calls, code, new RegExp(`${field}.*${pattern.source}`, 's'), field);
      const { message } = await reservation.lock('job').catch((error) => error);
      const [isText, isNumber] = [typeof value === 'string', typeof value === 'number'];
      if (field !== 'password' && field !== 'host' && (isText || isNumber)) {
        assert.ok(
          message.includes(isText ? JSON.stringify(value) : String(value)),
          `${message} names the value`,
        );
      }
    });
  });
}

test('after a wrong field is corrected, calls succeed', async (t) => {
  const server = await startServer(t);
  const reservation = makeReservation(t, server, { ttl: 'soon' });
  await assert.rejects(reservation.lock('job'), { code: VALUE });
  reservation.lock_ttl = 30;
  assert.equal(await reservation.lock('job'), true);
  reservation.lock_ttl = -1;
  await assert.rejects(reservation.ensure_reservation(), { code: VALUE, message: /lock_ttl/ });
  assert.equal(reservation.held, true);
  // A release needs no ttl.
  assert.equal(await reservation.release(), 1);
});

test('falsy hosts, ports and passwords mean the defaults; numeric strings mean numbers', async (t) => {
  const server = await startServer(t);
  for (const host of [undefined, null, '', 0, false]) {
    for (const password of [undefined, null, '', 0, false]) {
      const reservation = makeReservation(t, server, { password });
      Object.assign(reservation, { host, password, port: String(server.port) });
      assert.equal(await reservation.lock('job'), true);
      assert.equal(await reservation.release(), 1);
    }
  }
});

test('options of the constructor', async (t) => {
  await silently(t, async (server) => {
    for (const [given, code, pattern] of options) {
      const reservation = makeReservation(t, server, { options: given });
      const calls = [both('lock', reservation, 'job'), both('wait_until_lock', reservation, 'job')];
      await refused(calls, code, pattern, show(given));
    }
  });
});

test('options of a wait', async (t) => {
  await silently(t, async (server) => {
    const reservation = makeReservation(t, server);
    for (const [given, code, pattern] of waitOptions) {
      await refused([both('wait_until_lock', reservation, 'job', given)], code, pattern, show(given));
    }
  });
});

test('options that set nothing are accepted', async (t) => {
  const server = await startServer(t);
  for (const given of [undefined, null, {}, { max_hold: undefined, command_timeout: null }]) {
    const reservation = makeReservation(t, server, { options: given });
    assert.equal(await reservation.lock('job'), true);
    assert.equal(await reservation.release(), 1);
  }
  const reservation = makeReservation(t, server);
  for (const given of [
    undefined,
    null,
    {},
    { timeout: undefined, signal: undefined },
    { timeout: Infinity },
  ]) {
    const args = await ask((done) => reservation.wait_until_lock('job', given, done));
    assert.deepEqual(args, [null, 'reservation-job']);
    assert.equal(await reservation.release(), 1);
  }
});

test('a callback that is no function is an error in the promise', async (t) => {
  await silently(t, async (server) => {
    const reservation = makeReservation(t, server);
    for (const callback of ['done', 1, {}, true]) {
      for (const call of [
        () => reservation.lock('job', callback),
        () => reservation.wait_until_lock('job', {}, callback),
        () => reservation.release('job', callback),
        () => reservation.ensure_reservation(callback),
      ]) {
        await assert.rejects(call(), { code: TYPE, message: /callback/ });
      }
    }
  });
});

test('each code has its error class', async () => {
  const reservation = new ReserveResource('me', '127.0.0.1', 1, 1000, 'soon', false);
  const error = await reservation.lock('job').catch((caught) => caught);
  for (const Class of [ReserveResource.InvalidArgumentError, ReserveResource.ReservationError, Error]) {
    assert.ok(error instanceof Class);
  }
  assert.equal(error.name, 'InvalidArgumentError');
});
