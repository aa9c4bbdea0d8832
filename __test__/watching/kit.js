// What the tests of watched leases share: leases whose next renewal is minutes away, so only a report can tell of a change.
'use strict';

const { commandCalls } = require('../support/commands');
const { keepLosses, makeReservation } = require('../support/reservation');
const { startServer } = require('../support/server');
const { until } = require('../support/wait');

const key = 'reservation-job';

/** Renewed each ten minutes. */
const rarely = { interval: 600000, ttl: 1800 };

/** How many looks at keys have begun: each is one CLIENT CACHING. */
async function looks(client) {
  return (await commandCalls(client))['client|caching'] || 0;
}

/** Resolves once the server has been asked for reports of `count` keys more than `before`, and has answered. */
async function watched(client, count = 1, before = 0) {
  await until(async () => (await looks(client)) >= before + count, { what: 'a watch', timeout: 10000 });
  // The reply to the read behind it is on its way, or was read.
  await until(async () => ((await commandCalls(client)).get || 0) > 0, {
    what: 'the look',
  });
}

/** A server, a client of it, and a reservation that holds `job` and is watched. */
async function holding(t, { server: options, ...settings } = {}) {
  const server = await startServer(t, options);
  const client = server.client();
  const reservation = makeReservation(t, server, { ...rarely, ...settings });
  const losses = keepLosses(reservation);
  await reservation.lock('job');
  await watched(client);
  return { server, client, reservation, losses, value: reservation._reserve_val };
}

module.exports = { key, rarely, looks, watched, holding };
