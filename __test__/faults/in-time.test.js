// A call has one budget: the commands after its first one must not add time of their own.
'use strict';

const assert = require('node:assert/strict');
const { test } = require('node:test');
const { startProxy } = require('../support/proxy');
const { keepLog, makeReservation } = require('../support/reservation');
const { startServer } = require('../support/server');
const { within } = require('../support/wait');

const key = 'reservation-job';

for (const what of ['lock', 'release']) {
  test(`a ${what} whose connection breaks for good fails within its own budget, not after connect_timeout`, async (t) => {
    const server = await startServer(t);
    const proxy = await startProxy(t, server);
    const options = { command_timeout: 500, connect_timeout: 15000 };
    const reservation = makeReservation(t, proxy, { interval: 60000, ttl: 60, options });
    await reservation.lock(what === 'lock' ? 'warm-up' : 'job');
    proxy.set('up', {
      onRequest: {
        matches: (chunk) => chunk.includes(key),
        act: (link) => {
          proxy.heal();
          link.cut(false);
          // New connections are accepted, and get no answer.
          proxy.stall();
          return 'keep';
        },
      },
    });
    const start = performance.now();
    await assert.rejects(within(20000, reservation[what]('job')), { code: 'ERR_REDIS_CONNECTION' });
    const took = performance.now() - start;
    assert.ok(took < 5000, `${took} ms`);
    proxy.heal();
  });
}

test('a lock that another holds is answered within its budget, also where the holder cannot be read for the log', async (t) => {
  const server = await startServer(t);
  const proxy = await startProxy(t, server);
  const reservation = makeReservation(t, proxy, {
    ttl: 60,
    log: keepLog(),
    options: { command_timeout: 3000 },
  });
  await reservation.lock('warm-up');
  await server.client().set(key, 'other');
  proxy.delay(2500, { direction: 'down' });
  const start = performance.now();
  assert.equal(await within(20000, reservation.lock('job')), false);
  const took = performance.now() - start;
  // The reply to the SET came after 2,500 ms. The reply to the read would come after 5,000 ms.
  assert.ok(took >= 2400 && took < 4500, `${took} ms`);
  proxy.heal();
});
