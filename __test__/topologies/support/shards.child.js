// One process of the cluster tests: its reservations lock, wait and release by messages. startWorker in shards.js starts it.
'use strict';

const ReserveResource = require('../../../index.js');

const { by, interval, ttl, password, options } = JSON.parse(process.env.WORKER);
const reservations = new Map(); // name -> an instance

process.on('message', async ({ id, who, method, args }) => {
  try {
    process.send({ id, value: await reservationOf(who)[method](...args) });
  } catch ({ code, message }) {
    process.send({ id, error: { code, message } });
  }
});

function reservationOf(who) {
  if (!reservations.has(who)) {
    const reservation = new ReserveResource(by, null, null, interval, ttl, false, password, options);
    reservation.on('lost', ({ message }) => process.send({ loss: message }));
    reservations.set(who, reservation);
  }
  return reservations.get(who);
}
