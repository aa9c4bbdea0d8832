// What the checks share: reservations on the server that the environment names, commands, pauses.
'use strict';

const ReserveResource = require('redis-reservation');
const { connect } = require('./redis');

const host = process.env.REDIS_HOST;
const port = Number(process.env.REDIS_PORT);

let redis = null;

/** One command, e.g. `command('GET', 'key')`. */
function command(...words) {
  if (redis === null) redis = connect(host, port);
  return redis.command(...words);
}

function make({ interval, ttl = 10, by = 'probe' } = {}) {
  return new ReserveResource(by, host, port, interval, ttl, false);
}

function sleep(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** Blocks the thread, as a long computation does. */
function block(ms) {
  const end = Date.now() + ms;
  while (Date.now() < end);
}

function same(actual, expected, what) {
  if (actual !== expected) throw new Error(`${what}: ${String(actual)} instead of ${String(expected)}`);
}

async function until(condition, what) {
  for (const end = Date.now() + 10000; Date.now() < end; await sleep(10)) if (await condition()) return;
  throw new Error(`not within 10 s: ${what}`);
}

module.exports = { ReserveResource, host, port, command, make, sleep, block, same, until };
