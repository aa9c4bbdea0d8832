// The time of a call is one: whatever comes after its first command must not add a time of its own.
'use strict';

const assert = require('node:assert/strict');
const { test } = require('node:test');
const { startProxy } = require('../support/proxy');
const { keepLog, makeReservation } = require('../support/reservation');
const { startServer } = require('../support/server');
const { within } = require('../support/wait');

const key = 'reservation-job';

for (const what of ['lock', 'release']) {
  test(`a ${what} whose connection breaks, and no other comes: it fails in its own time, not in that of connecting`, async (t) => {
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
          // Whoever connects from now on is accepted, and hears nothing.
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

test('a lock that somebody else has is answered in its own time, also where who has it cannot be read for the log', async (t) => {
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
  // The reply to the SET came after 2,500 ms. That of the read would have come after 5,000.
  assert.ok(took >= 2400 && took < 4500, `${took} ms`);
  proxy.heal();
});
