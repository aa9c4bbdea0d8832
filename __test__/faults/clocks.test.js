// Tests of callers that fake the clock, and environments without some timers: every call is answered, exceptions of callbacks
// are thrown, and losses are reported.
'use strict';

const assert = require('node:assert/strict');
const { test } = require('node:test');
const { startChild } = require('../support/child');
const { runChild } = require('../support/faults');
const { startServer } = require('../support/server');

// In the child: the child itself waits with `real`. fake() replaces the timers by functions that never call back.
const preamble = `
  const timers = require('node:timers');
  const names = ['setTimeout', 'setInterval', 'setImmediate', 'clearTimeout', 'clearInterval', 'queueMicrotask'];
  const real = Object.fromEntries(names.map((name) => [name, globalThis[name]]));
  const { nextTick } = process;
  const never = () => ({ ref() {}, unref() {}, hasRef: () => false });
  const put = (object, all) => names.forEach((name) => name in object && (object[name] = all[name]));
  const fake = () => {
    const fakes = Object.fromEntries(names.map((name) => [name, never]));
    put(globalThis, fakes);
    put(timers, fakes);
    process.nextTick = () => {};
  };
  const restore = () => {
    put(globalThis, real);
    put(timers, real);
    process.nextTick = nextTick;
  };
  const called = (start) => new Promise((resolve) => start((...args) => resolve(args)));
  const code_of = (promise) => promise.then((value) => value, (error) => error.code);
  async function everyCall(reservation) {
    const nothing = make();
    nothing._init_redis();
    const many = Array.from({ length: 1000 }, (_, index) => 'job ' + index);
    return [
      await reservation.lock('job'),
      await reservation.wait_until_lock('job'),
      await reservation.ensure_reservation(),
      await reservation.release(),
      await nothing.release(),
      await called((callback) => nothing.release(callback)),
      await code_of(nothing.ensure_reservation()),
      await code_of(reservation.lock(undefined)),
      (await called((callback) => reservation.lock(undefined, callback)))[0].code,
      await code_of(reservation.wait_until_lock('job', { signal: AbortSignal.abort('aborted') }).catch((reason) => reason)),
      (await Promise.all(many.map((name) => reservation.lock(name)))).every((locked) => locked),
      await reservation.release(),
      await nothing._redis.quit(),
    ];
  }
  const answer = (work) => work().then((answers) => process.send({ answers }), (error) => process.send({ answers: error.stack }));`;

// As JSON.
const answers = [
  true,
  'reservation-job',
  null,
  1,
  0,
  [null, 0],
  'ERR_RESERVATION_NOT_HELD',
  'ERR_INVALID_ARG_TYPE',
  'ERR_INVALID_ARG_TYPE',
  'aborted',
  true,
  1000,
  'OK',
];

const scenes = {
  'faked globals around all calls': `fake(); answer(() => everyCall(make()));`,
  'faked globals around later calls': `
    const reservation = make();
    reservation.lock('first').then(() => reservation.release()).then(() => {
      fake();
      answer(() => everyCall(reservation));
    });`,
  'faked globals around the first call alone': `
    fake();
    const reservation = make();
    reservation.lock('first').then(() => reservation.release()).then(() => {
      restore();
      answer(() => everyCall(reservation));
    });`,
  'mock timers of node:test around all calls': `
    require('node:test').mock.timers.enable();
    answer(() => everyCall(make()));`,
};

for (const [scene, code] of Object.entries(scenes)) {
  test(`${scene}: every call is answered`, async (t) => {
    const server = await startServer(t);
    const child = runChild(t, server, preamble + code);
    assert.deepEqual(await child.message({}, { timeout: 20000 }), { answers });
    assert.equal(child.stderr.replace(/.*ExperimentalWarning[^]*/, ''), '');
  });
}

test('no setImmediate at all, as in jsdom: every call is answered', async (t) => {
  const server = await startServer(t);
  const code = `
    delete globalThis.setImmediate;
    delete globalThis.clearImmediate;
    const ReserveResource = require('./index.js');
    const { REDIS_HOST, REDIS_PORT } = process.env;
    const make = () => new ReserveResource('me', REDIS_HOST, REDIS_PORT, 500, 30, false);
    ${preamble} answer(() => everyCall(make()));`;
  const child = startChild(t, { code }, { env: server.environment });
  assert.deepEqual(await child.message({}, { timeout: 20000 }), { answers });
});

test('under a faked clock, an exception of a callback and a loss reach the process', async (t) => {
  const server = await startServer(t);
  const code = `${preamble}
    process.on('message', () => {});
    fake();
    const thrown = [];
    process.on('uncaughtException', ({ message }) => {
      thrown.push(message);
      if (thrown.length === 3) process.send({ thrown });
    });
    const reservation = make(100);
    make().lock(undefined, () => { throw new Error('at once'); });
    reservation.lock('job', () => {
      process.send({ locked: reservation._reserve_val });
      throw new Error('later');
    });`;
  const child = runChild(t, server, code);
  const { locked } = await child.message((message) => 'locked' in message);
  await server.client().del('reservation-job');
  const { thrown } = await child.message((message) => 'thrown' in message);
  assert.deepEqual(thrown.sort(), [
    `Worker ${locked} lost reservation for reservation-job`,
    'at once',
    'later',
  ]);
});

test('under a faked clock, a subclass that overrides _set_expiration renews', async (t) => {
  const server = await startServer(t);
  const code = `${preamble}
    fake();
    let times = 0;
    class Own extends ReserveResource {
      ensure_reservation(callback) {
        if (++times === 3) process.send({ renewed: times });
        return super.ensure_reservation(callback);
      }
    }
    new Own('me', process.env.REDIS_HOST, process.env.REDIS_PORT, 50, 30, false).lock('job');
    real.setInterval(() => {}, 1000);`;
  const child = runChild(t, server, code);
  assert.deepEqual(await child.message(), { renewed: 3 });
});
