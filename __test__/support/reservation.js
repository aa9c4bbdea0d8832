// Reservations on the server of a test, and callbacks that check how they are called.
'use strict';

const ReserveResource = require('../../index.js');

/** The methods that take a callback or give a promise. */
const callingMethods = [
  'lock',
  'wait_until_lock',
  'release',
  'ensure_reservation',
  '_ensure_reservation',
  '_set_expiration',
];

/**
 * A reservation on `server` (anything with host and port), silent unless it gets a `log`. If it still holds something when
 * the test and its server end, that loss is not thrown at the next test.
 */
function makeReservation(t, server, settings = {}) {
  const { by = 'worker', interval, ttl = 30, log = false, password = server.password, options } = settings;
  const { Class = ReserveResource } = settings;
  const reservation = new Class(by, server.host, server.port, interval, ttl, log, password, options);
  t.after(() => reservation.on('lost', () => {}));
  return reservation;
}

/**
 * Opens the connection that all reservations on `server` share, however long that takes on a busy machine. A short
 * `connect_timeout` of the test then applies only to later connections.
 */
async function connect(t, server) {
  const reservation = makeReservation(t, server);
  await reservation.lock('connecting');
  await reservation.release();
}

/**
 * Calls `start(callback)` and resolves with the arguments of the callback. If the callback runs before `start` has returned,
 * or twice, or if `start` throws, the test fails.
 */
function ask(start) {
  return new Promise((resolve, reject) => {
    let returned = false;
    let times = 0;
    start((...args) => {
      times += 1;
      if (!returned) reject(new Error('the callback was called before the call had returned'));
      if (times > 1) throw new Error(`the callback was called ${times} times`);
      resolve(args);
    });
    returned = true;
  });
}

/** The error of a callback that gets an error and nothing else. */
async function askError(start) {
  const args = await ask(start);
  if (args.length !== 1 || !(args[0] instanceof Error)) {
    throw new Error(`the callback got ${require('node:util').inspect(args)} instead of one error`);
  }
  return args[0];
}

/** A `log` function that keeps the events of the lines: `log.events`, `log.of(title)`. */
function keepLog() {
  const log = (line) => {
    log.events.push({ ...JSON.parse(line), at: performance.now() });
  };
  log.events = [];
  log.of = (title) => log.events.filter((event) => event.title === title);
  return log;
}

/** Listens for losses from now on, and collects their errors. */
function keepLosses(reservation) {
  const losses = [];
  reservation.on('lost', (error) => losses.push(error));
  return losses;
}

module.exports = {
  ReserveResource,
  callingMethods,
  makeReservation,
  connect,
  ask,
  askError,
  keepLog,
  keepLosses,
};
