// A redis that is far away: connecting takes many round trips, and so longer than a command may.
'use strict';

const assert = require('node:assert/strict');
const { test } = require('node:test');
const { startProxy } = require('../support/proxy');
const { keepLosses, makeReservation } = require('../support/reservation');
const { startServer } = require('../support/server');
const { until } = require('../support/wait');

const key = 'reservation-job';

test('a broken connection is made again while a lock is held, also if that takes longer than a command', async (t) => {
  const server = await startServer(t);
  const proxy = await startProxy(t, server);
  const options = { command_timeout: 450 };
  const reservation = makeReservation(t, proxy, { interval: 2000, ttl: 20, options });
  const losses = keepLosses(reservation);
  proxy.delay(190);
  assert.equal(await reservation.lock('job'), true);
  const value = reservation._reserve_val;
  proxy.cut();
  await server.client().pexpire(key, 12000);
  await until(async () => (await server.client().pttl(key)) > 15000, { timeout: 12000, what: 'a renewal' });
  assert.equal(await server.client().get(key), value);
  assert.equal(await reservation.release(), 1);
  assert.deepEqual(losses, []);
});
