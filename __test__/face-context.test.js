// Where a caller's code runs: each callback in the async context of its call, also when it throws; and what an unhandled
// rejection does to the process. Every call here fails before it needs redis.
'use strict';

const assert = require('node:assert/strict');
const { AsyncLocalStorage } = require('node:async_hooks');
const domain = require('node:domain');
const { test } = require('node:test');
const ReserveResource = require('../index.js');
const { startChild } = require('./support/child');

const calls = {
  lock: (reservation, callback) => reservation.lock(undefined, callback),
  wait_until_lock: (reservation, callback) => reservation.wait_until_lock(undefined, callback),
  release: (reservation, callback) => reservation.release(callback),
  ensure_reservation: (reservation, callback) => reservation.ensure_reservation(callback),
  _set_expiration: (reservation, callback) => reservation._set_expiration(callback),
  quit: (reservation, callback) => reservation._redis.quit(callback),
};

function make() {
  const reservation = new ReserveResource('worker', '127.0.0.1', 1, 0, 2, false);
  reservation._init_redis();
  return reservation;
}

for (const [name, call] of Object.entries(calls)) {
  test(`${name}: its callback sees the AsyncLocalStorage and the domain of the call`, async () => {
    const storage = new AsyncLocalStorage();
    const seen = await Promise.all(
      ['first', 'second'].map(
        (context) =>
          new Promise((resolve) => {
            const own = domain.create();
            storage.run(context, () =>
              own.run(() =>
                call(make(), () => resolve([context, storage.getStore(), process.domain === own])),
              ),
            );
          }),
      ),
    );
    assert.deepEqual(seen, [
      ['first', 'first', true],
      ['second', 'second', true],
    ]);
  });

  test(`${name}: what its callback throws reaches the domain of the call, and later ones still run`, async () => {
    const own = domain.create();
    const caught = new Promise((resolve) => own.on('error', resolve));
    own.run(() =>
      call(make(), () => {
        throw new Error(`thrown by ${name}`);
      }),
    );
    const later = new Promise((resolve) => call(make(), resolve));
    assert.equal((await caught).message, `thrown by ${name}`);
    await later;
  });
}

test('an uncaught exception of a callback ends the process, once, with its own stack', async (t) => {
  const code = `
    const ReserveResource = require('./index.js');
    new ReserveResource('w', '127.0.0.1', 1, 0, 2, false).lock(undefined, function mine() { throw new Error('mine'); });
    process.on('exit', () => process.stdout.write('exit'));`;
  const child = startChild(t, { code });
  assert.equal((await child.exited).code, 1);
  assert.match(child.stderr, /Error: mine[\s\S]*at mine/);
  assert.equal(child.stdout, 'exit');
});

test('a rejected promise that the caller ignores, as code for 0.4.0 does, does not end the process', async (t) => {
  const code = `
    const ReserveResource = require('./index.js');
    const reservation = new ReserveResource('w', '127.0.0.1', 1, 0, 2, false);
    reservation.lock(undefined);
    reservation.ensure_reservation();
    reservation._ensure_reservation();
    const late = reservation.lock(null);
    setTimeout(() => late.catch((error) => process.stdout.write(error.code)), 20);`;
  const child = startChild(t, { code });
  assert.equal((await child.exited).code, 0, child.stderr);
  assert.equal(child.stdout, 'ERR_INVALID_ARG_TYPE');
});

test('a failed wait whose promise is ignored ends the process', async (t) => {
  const code = `
    const ReserveResource = require('./index.js');
    new ReserveResource('w', '127.0.0.1', 1, 0, 2, false).wait_until_lock(undefined);`;
  const child = startChild(t, { code });
  assert.equal((await child.exited).code, 1);
  assert.match(child.stderr, /ERR_INVALID_ARG_TYPE/);
});
