// The async context in which a caller's code runs, with a real redis: callbacks of waits, listeners, uncaught losses.
'use strict';

const assert = require('node:assert/strict');
const { AsyncLocalStorage } = require('node:async_hooks');
const { test } = require('node:test');
const { startChild } = require('./support/child');
const { commandCalls } = require('./support/commands');
const { makeReservation } = require('./support/reservation');
const { startServer } = require('./support/server');
const { until, within } = require('./support/wait');

const key = 'reservation-job';

test('listeners run in the async context of the call that acquired the lock', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  const storage = new AsyncLocalStorage();
  const reservation = makeReservation(t, server, { interval: 200 });
  const told = new Promise((resolve) => {
    reservation.on('lost', () => resolve(storage.getStore()));
  });
  await storage.run('the first', () => reservation.lock('other'));
  await storage.run('the second', () => reservation.lock('job'));
  await client.del(key);
  assert.equal(await within(5000, told), 'the second');
});

test('an uncaught loss reaches the domain of the call that acquired the lock', async (t) => {
  const server = await startServer(t);
  const code = `
    const domain = require('node:domain').create();
    const ReserveResource = require('./index.js');
    const { REDIS_HOST, REDIS_PORT } = process.env;
    const reservation = new ReserveResource('me', REDIS_HOST, REDIS_PORT, 200, 30, false);
    domain.on('error', ({ message }) => process.send({ domain: message }));
    process.on('uncaughtException', ({ message }) => process.send({ process: message }));
    setInterval(() => {}, 1000);
    domain.run(() => reservation.lock('job', () => process.send({ val: reservation._reserve_val })));`;
  const child = startChild(t, { code }, { env: server.environment });
  const { val } = await child.message();
  await server.client().del(key);
  assert.deepEqual(await child.message(), { domain: `Worker ${val} lost reservation for ${key}` });
});

// Many calls of one caller share one context. What the code of one changes in it must not reach the others.
test('a callback that changes its context does not affect another wait of the same caller', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  await client.mset(key, 'other', 'reservation-other', 'other');
  const code = `
    const storage = new (require('node:async_hooks').AsyncLocalStorage)();
    const ReserveResource = require('./index.js');
    const { REDIS_HOST, REDIS_PORT } = process.env;
    const wait = (resource, then) =>
      new ReserveResource('me', REDIS_HOST, REDIS_PORT, 200, 30, false).wait_until_lock(resource, then);
    storage.run('the caller', () => {
      wait('job', () => { storage.enterWith('the first callback'); process.send('first'); });
      wait('other', () => process.send({ second: storage.getStore() }));
    });`;
  const child = startChild(t, { code }, { env: server.environment });
  await until(async () => ((await commandCalls(client)).get || 0) >= 2, { what: 'both to wait' });
  await client.del(key);
  assert.equal(await child.message(), 'first');
  await client.del('reservation-other');
  assert.deepEqual(await child.message(), { second: 'the caller' });
});

test('a callback or a listener that changes its context does not affect another lock of the same caller', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  const storage = new AsyncLocalStorage();
  const lock = (resource) =>
    new Promise((resolve) => {
      const reservation = makeReservation(t, server, { interval: 100 });
      const told = new Promise((tell) => {
        reservation.on('lost', () => {
          tell(storage.getStore());
          storage.enterWith(`the listener of ${resource}`);
        });
      });
      reservation.lock(resource, () => {
        storage.enterWith(`the callback of ${resource}`);
        resolve({ told });
      });
    });
  const [first, second] = await storage.run('the caller', () => Promise.all([lock('job'), lock('other')]));
  await client.del(key);
  assert.equal(await within(5000, first.told), 'the caller');
  await client.del('reservation-other');
  assert.equal(await within(5000, second.told), 'the caller');
});
