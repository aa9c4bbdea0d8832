// One process of the waiting tests: it locks, waits and releases as messages tell it to, and says what was answered and
// when. kit.js starts it.
'use strict';

const ReserveResource = require('../../index.js');
const { now } = require('../torture/clock');

const { ttl, interval, by } = JSON.parse(process.env.PEER);
const reservations = new Map(); // name -> an instance
const controllers = new Map(); // the id of a wait that is not over -> what aborts it

process.on('message', ({ id, who, method, args, abort }) => {
  if (abort) controllers.get(abort)?.abort();
  else call(id, reservationOf(who), method, args);
});

function reservationOf(who) {
  if (!reservations.has(who)) {
    const { REDIS_HOST: host, REDIS_PORT: port } = process.env;
    const log = (line) => process.send({ line: JSON.parse(line) });
    reservations.set(who, new ReserveResource(by, host, port, interval, ttl, log));
  }
  return reservations.get(who);
}

function call(id, reservation, method, args) {
  reservation[method](...args.map((arg) => withSignal(id, arg)), (error, value) => {
    const at = now();
    controllers.delete(id);
    const { _reserve_key: key, _reserve_val: val, held } = reservation;
    process.send({ id, at, error: error ? nameOf(error) : null, value, key, val, held });
  });
}

/** An AbortSignal cannot be sent: `{ abortable: true }` among the options of a wait asks for one. */
function withSignal(id, arg) {
  if (!arg || !arg.abortable) return arg;
  const controller = new AbortController();
  controllers.set(id, controller);
  return { timeout: arg.timeout, signal: controller.signal };
}

/** An AbortError has a number for its code. */
function nameOf({ code, name }) {
  return typeof code === 'string' ? code : name;
}
