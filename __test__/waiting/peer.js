// One process of the waiting tests: locks, waits and releases by messages, and reports each answer and its time. kit.js starts
// it.
'use strict';

const ReserveResource = require('../../index.js');
const { now } = require('../torture/clock');

const { ttl, interval, by } = JSON.parse(process.env.PEER);
const reservations = new Map(); // name -> an instance
const controllers = new Map(); // the id of a pending wait -> what aborts it

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

/** A message cannot contain an AbortSignal: `{ abortable: true }` in the options of a wait makes one. */
function withSignal(id, arg) {
  if (!arg || !arg.abortable) return arg;
  const controller = new AbortController();
  controllers.set(id, controller);
  return { timeout: arg.timeout, signal: controller.signal };
}

/** The code of an AbortError is a number. */
function nameOf({ code, name }) {
  return typeof code === 'string' ? code : name;
}
