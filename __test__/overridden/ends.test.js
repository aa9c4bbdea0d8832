// How a wait through an overridden lock() ends without a lock: by its timeout, its signal, an error of the method or an
// outage; and methods that wait themselves, or never answer.
'use strict';

const assert = require('node:assert/strict');
const { setTimeout: sleep } = require('node:timers/promises');
const { test } = require('node:test');
const { startChild } = require('../support/child');
const { ReserveResource, makeReservation, askError, keepLog } = require('../support/reservation');
const { startServer, freePort } = require('../support/server');
const { until, within } = require('../support/wait');
const { key, tried, ways } = require('./kit');

test('a timeout ends the wait; 0 tries once, and acquires a free resource', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  const reservation = ways['a subclass'](t, server);
  assert.equal(await reservation.wait_until_lock('job', { timeout: 0 }), key);
  const other = ways['a subclass'](t, server);
  for (const timeout of [0, 300, 1500]) {
    const times = [];
    for (let round = 0; round < 3; round += 1) {
      const start = performance.now();
      const error = await askError((done) => other.wait_until_lock('job', { timeout }, done));
      times.push(performance.now() - start);
      assert.equal(error.code, 'ERR_RESERVATION_TIMEOUT');
      assert.match(error.message, new RegExp(`${timeout} ms for ${key}`));
      assert.equal(error.key, key);
    }
    assert.ok(
      times.every((passed) => passed >= timeout - 5),
      `${times} ms`,
    );
    // Sooner than the next round, which is a second away. A busy machine may delay one of them, but not all.
    assert.ok(Math.min(...times) < timeout + 450, `${times} ms`);
  }
  await reservation.release();
  assert.equal(await client.exists(key), 0, 'nobody takes it who has left');
  await tried(client, 0);
  assert.equal(other.held, false);
});

test('a signal ends the wait; a lock that the method acquires after that is released', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  const reason = new Error('no longer wanted');
  const waiter = ways['a subclass'](t, server);
  await client.set(key, 'other', 'EX', 600);
  const controller = new AbortController();
  const waiting = askError((done) => waiter.wait_until_lock('job', { signal: controller.signal }, done));
  await tried(client, 2);
  controller.abort(reason);
  assert.equal(await within(1000, waiting), reason);
  await client.del(key);
  await assert.rejects(waiter.wait_until_lock('job', { signal: AbortSignal.abort(reason) }), reason);

  for (const delay of [0, 30]) {
    for (let round = 0; round < 20; round += 1) {
      class Slow extends ReserveResource {
        async lock(resource) {
          if (delay > 0) await sleep(delay);
          return super.lock(`prod-${resource}`);
        }
      }
      const slow = makeReservation(t, server, { Class: Slow });
      const late = new AbortController();
      const answer = slow.wait_until_lock('job', { signal: late.signal }).catch((error) => error);
      if (round % 2) setImmediate(() => late.abort(reason));
      else late.abort(reason);
      const got = await answer;
      if (got === reason) {
        // Only after the method has answered.
        await sleep(delay * 2);
        await until(async () => !slow.held && !(await client.exists(key)), { what: 'a free key' });
      } else {
        assert.equal(got, key);
        assert.equal(await slow.release(), 1);
      }
    }
  }
});

for (const [what, answer, pattern] of [
  ['an error', (callback) => callback(new Error('mine')), /^mine$/],
  [
    'an exception',
    () => {
      throw new Error('mine');
    },
    /^mine$/,
  ],
  ['a rejected promise', () => Promise.reject(new Error('mine')), /^mine$/],
  ['a rejected promise without a reason', () => Promise.reject(), /overridden lock threw undefined/],
  [
    'an exception that is null',
    () => {
      // eslint-disable-next-line no-throw-literal -- callers do.
      throw null;
    },
    /overridden lock threw null/,
  ],
]) {
  test(`${what} of the method ends the wait, with a callback and with a promise`, async (t) => {
    const nowhere = { host: '127.0.0.1', port: 1 };
    class Own extends ReserveResource {
      lock(_resource, callback) {
        return answer(callback);
      }
    }
    const log = keepLog();
    const reservation = makeReservation(t, nowhere, { Class: Own, log });
    const error = await askError((done) => reservation.wait_until_lock('job', done));
    assert.match(error.message, pattern);
    await assert.rejects(reservation.wait_until_lock('job'), { message: pattern });
    assert.equal(log.of('reservation-failed').length, 2);
  });
}

test('a method that calls wait_until_lock, and a lock that is no method, are an error', async (t) => {
  const server = await startServer(t);
  class Round extends ReserveResource {
    lock(resource, callback) {
      return super.wait_until_lock(`w-${resource}`, callback);
    }
  }
  class LaterRound extends ReserveResource {
    async lock(resource) {
      await null;
      return super.wait_until_lock(`w-${resource}`);
    }
  }
  for (const Class of [Round, LaterRound]) {
    await assert.rejects(within(5000, makeReservation(t, server, { Class }).wait_until_lock('job')), {
      code: 'ERR_INVALID_ARG_VALUE',
      message: /calls wait_until_lock, which waits by calling lock.*inherited lock/,
    });
  }
  const reservation = makeReservation(t, server);
  reservation.lock = 5;
  await assert.rejects(reservation.wait_until_lock('job'), {
    code: 'ERR_INVALID_ARG_TYPE',
    message: 'lock must be a method; it is 5.',
  });
});

test('a method may first wait for another resource, by the same method', async (t) => {
  const server = await startServer(t);
  class Ordered extends ReserveResource {
    async lock(resource) {
      if (resource !== 'first') await this.wait_until_lock('first');
      return super.lock(`prod-${resource}`);
    }
  }
  const reservation = makeReservation(t, server, { Class: Ordered });
  await within(5000, reservation.wait_until_lock('job'));
  assert.deepEqual((await server.client().keys('*')).sort(), ['reservation-prod-first', key]);
});

test('a method that never answers: the timeout ends the wait, and the process stays alive', async (t) => {
  const code = `
    const ReserveResource = require('./index.js');
    class Own extends ReserveResource { lock() {} }
    const reservation = new Own('me', '127.0.0.1', 1, 0, 30, false);
    reservation.wait_until_lock('job', () => console.log('answered'));
    process.on('message', () => {
      reservation.wait_until_lock('job', { timeout: 100 }, (error) => process.send({ code: error.code }, () => process.exit()));
    });
    process.channel.unref();
    process.send({ up: true });`;
  const child = startChild(t, { code });
  await child.message({ up: true });
  await sleep(1500);
  assert.equal(child.ended, undefined, 'it waits');
  child.send('with a timeout');
  assert.deepEqual(await child.message(), { code: 'ERR_RESERVATION_TIMEOUT' });
  assert.equal(child.stdout, '');
});

test('after the wait the process ends by itself', async (t) => {
  const server = await startServer(t);
  const code = `
    const ReserveResource = require('./index.js');
    class Own extends ReserveResource { lock(resource, callback) { return super.lock('prod-' + resource, callback); } }
    const { REDIS_HOST, REDIS_PORT } = process.env;
    const [one, other] = [1, 2].map(() => new Own('me', REDIS_HOST, REDIS_PORT, 0, 30, false));
    (async () => {
      await one.wait_until_lock('job', { timeout: 3600000 });
      await other.wait_until_lock('job', { timeout: 50 }).catch((error) => console.log(error.code));
      process.disconnect();
    })();`;
  const start = performance.now();
  const child = startChild(t, { code }, { env: server.environment });
  assert.deepEqual(await child.exit(), { code: 0, signal: null });
  assert.equal(child.stdout, 'ERR_RESERVATION_TIMEOUT\n');
  assert.ok(performance.now() - start < 9000);
});

test('a wait outlasts an outage; a failed first connection and a wrong password are errors', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  await client.set(key, 'other', 'EX', 600);
  const waiter = ways['a subclass'](t, server);
  const waiting = waiter.wait_until_lock('job');
  await tried(client, 2);
  await server.restart({ data: true, down: 2500 });
  await tried(client);
  assert.equal(waiter.held, false);
  await client.del(key);
  assert.equal(await within(10000, waiting), key);
  assert.equal(await client.get(key), waiter._reserve_val);

  const nowhere = { host: '127.0.0.1', port: await freePort() };
  await assert.rejects(within(5000, ways['a subclass'](t, nowhere).wait_until_lock('job')), {
    code: 'ERR_REDIS_CONNECTION',
  });
  const guarded = await startServer(t, { password: 'right' });
  await assert.rejects(ways['a subclass'](t, guarded, { password: 'wrong' }).wait_until_lock('job'), {
    code: 'ERR_REDIS_AUTH',
  });
});
