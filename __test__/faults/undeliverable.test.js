// An answer or event of the native side that cannot be made a JavaScript value fails alone: its call gets an error, a loss is
// still reported, and later ones are delivered. Here a throwing setter on Object.prototype makes them fail.
'use strict';

const assert = require('node:assert/strict');
const { test } = require('node:test');
const { patient, runChild } = require('../support/faults');
const { keepLog, keepLosses, makeReservation } = require('../support/reservation');
const { startServer } = require('../support/server');
const { until, within } = require('../support/wait');

const key = 'reservation-job';

// In the child: break_on('code') defines such a setter; mend() removes all of them.
const preamble = `
  const broken = [];
  const break_on = (name, applies = () => true) => {
    broken.push(name);
    Object.defineProperty(Object.prototype, name, {
      set(value) {
        if (applies(value)) throw new Error('no ' + name);
        Object.defineProperty(this, name, { value, writable: true, configurable: true, enumerable: true });
      },
      configurable: true,
    });
  };
  const mend = () => broken.splice(0).forEach((name) => delete Object.prototype[name]);
  const called = (start) => new Promise((resolve) => start((error, value) => resolve({ error, value })));
  // A held lock does not keep the process alive; the channel to the parent does.
  const stay = () => process.on('message', () => {});
  const tell = ({ error, value }) => (error ? { code: error.code, message: error.message } : { value });
  process.on('uncaughtException', (error) => process.send({ uncaught: error.stack }));`;

test('of many answers, one cannot be delivered: only its call fails', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  await client.set('reservation-bad', 'other');
  const code = `${preamble}
    (async () => {
      const reservation = make();
      await reservation.lock('first');
      await reservation.release();
      break_on('key', (key) => key === 'reservation-bad');
      const bad = called((callback) => make().wait_until_lock('bad', { timeout: 0 }, callback));
      const names = Array.from({ length: 3000 }, (_, index) => 'job ' + index);
      const locks = names.map((name) => called((callback) => reservation.lock(name, callback)));
      const answers = { bad: tell(await bad) };
      answers.locked = (await Promise.all(locks)).filter(({ value }) => value === true).length;
      mend();
      answers.released = await reservation.release();
      process.send(answers);
      process.disconnect();
    })();`;
  const child = runChild(t, server, code);
  const { bad, locked, released } = await child.message({}, patient);
  assert.equal(bad.code, 'ERR_INTERNAL');
  assert.match(bad.message, /could not be made a value of JavaScript.*please report it/);
  assert.deepEqual([locked, released], [3000, 3000]);
  assert.deepEqual(await child.exit(), { code: 0, signal: null }, 'no call is left over');
});

test('a release whose answer cannot be delivered frees no lock of others when it is called again', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  const code = `${preamble}
    (async () => {
      const reservation = make(20000);
      await reservation.lock('job');
      process.once('message', async () => {
        break_on('holder');
        const first = tell(await called((callback) => reservation.release(callback)));
        mend();
        const other = make();
        await other.lock('other');
        const second = await reservation.release();
        process.send({ first: first.code, second, other: other.held });
        process.disconnect();
      });
      process.send('locked');
    })();`;
  const child = runChild(t, server, code);
  await child.message((message) => message === 'locked');
  await client.set(key, 'other');
  child.send('release');
  assert.deepEqual(await child.message({}, patient), { first: 'ERR_INTERNAL', second: 0, other: true });
  assert.equal(await client.exists('reservation-other'), 1);
});

test('a call whose error cannot be delivered either fails all the same', async (t) => {
  const server = await startServer(t);
  const code = `${preamble}
    (async () => {
      const reservation = make();
      await reservation.lock('job');
      let times = 0;
      // Once for the error and once for its substitute. Then lib/ makes one.
      break_on('code', () => ++times <= 2);
      const bad = tell(await called((callback) => make().wait_until_lock('job', { timeout: 0 }, callback)));
      mend();
      process.send({ times, bad, released: await reservation.release() });
      process.disconnect();
    })();`;
  const child = runChild(t, server, code);
  const { times, bad, released } = await child.message();
  assert.equal(times, 3);
  assert.equal(bad.code, 'ERR_INTERNAL');
  assert.match(bad.message, /could not be made a value of JavaScript; please report it/);
  assert.equal(released, 1);
  assert.deepEqual(await child.exit(), { code: 0, signal: null });
});

test('a loss whose details cannot be delivered is reported', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  const code = `${preamble}
    stay();
    const reservation = make(100);
    reservation.on('lost', ({ code, key, message }) => {
      mend();
      const { held, _reserve_key } = reservation;
      reservation.lock('job', () => process.send({ code, key, message, held, named: _reserve_key !== undefined }));
    });
    reservation.lock('job', () => {
      break_on('holder');
      process.send('locked');
    });`;
  const child = runChild(t, server, code);
  await child.message((message) => message === 'locked');
  await client.set(key, 'other', 'PX', 1000);
  assert.deepEqual(await child.message({}, patient), {
    code: 'ERR_RESERVATION_LOST',
    key,
    message: `Worker lost reservation for ${key}`,
    held: false,
    named: false,
  });
});

test('a log line that cannot be delivered is counted', async (t) => {
  const server = await startServer(t);
  const code = `${preamble}
    stay();
    const titles = [];
    const log = { info: (title) => add({ title }), error: (title) => add({ title }), warn: (title, data) => add(data) };
    const add = ({ title, count }) => {
      titles.push(count === undefined ? title : [title, count]);
      // Now the core knows whose lines these are.
      if (title === 'reservation-extended') break_on('duration');
      if (title !== 'log-lines-dropped') return;
      mend();
      process.send({ titles });
    };
    const reservation = make(100, 30, undefined, log);
    reservation.lock('job');`;
  const child = runChild(t, server, code);
  const { titles } = await child.message();
  assert.deepEqual(titles.slice(-1), [['log-lines-dropped', 1]]);
});

test('a huge foreign value is cut, and waits and losses go on', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  const log = keepLog();
  // The cut would split a character.
  const huge = `${'x'.repeat(255)}é${'x'.repeat(16 * 1024 * 1024)}`;
  const cut = `${'x'.repeat(255)}…`;
  const reservation = makeReservation(t, server, { interval: 100, log });
  const losses = keepLosses(reservation);
  await reservation.lock('job');
  const val = reservation._reserve_val;
  await client.set(key, huge);
  await until(() => losses.length > 0, { ...patient, what: 'the loss' });
  assert.equal(losses[0].holder, cut);
  assert.equal(losses[0].message, `Worker ${val} lost ${key} to ${cut}`);
  assert.equal(log.of('reservation-lost')[0].holder, cut);
  assert.equal(await reservation.lock('job'), false);
  assert.equal(log.of('reservation-exists')[0].val, cut);
  const waiting = reservation.wait_until_lock('job');
  await until(() => log.of('reservation-exists').length > 1, { ...patient, what: 'the look of the wait' });
  assert.equal(log.of('reservation-exists')[1].val, cut);
  await client.del(key);
  assert.equal(await within(20000, waiting), key);
  await reservation.release();
  const other = makeReservation(t, server, { interval: 20000 });
  await other.lock('job');
  await client.set(key, huge);
  await assert.rejects(other.release(), { code: 'ERR_RESERVATION_LOST', holder: cut });
});
