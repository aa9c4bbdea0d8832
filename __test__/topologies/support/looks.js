// What the tests of TLS, users and places share: reservations on any kind of server, and views of its connections.
'use strict';

const assert = require('node:assert/strict');
const { inspect } = require('node:util');
const { makeReservation } = require('../../support/reservation');
const { until } = require('../../support/wait');

/** For conditions that must come true, however busy the machine is. */
const patient = { timeout: 20000 };

/** A reservation on a server with these options. `settings`: as in makeReservation; `host` and `port` replace the server's. */
function reserve(t, server, options, { host = server.host, port = server.port, password, ...settings } = {}) {
  const place = { host, port, password: password === undefined ? server.password : password };
  return makeReservation(t, place, { ...settings, options });
}

/** The error that rejects a promise. */
async function errorOf(promise) {
  return promise.then(
    (value) => assert.fail(`no error, but ${inspect(value)}`),
    (error) => error,
  );
}

/** The connections with this name in CLIENT LIST, as objects of its fields. */
async function connections(server, name = 'redis-reservation') {
  const text = await server.command('CLIENT', 'LIST');
  return text
    .trim()
    .split('\n')
    .map((line) => Object.fromEntries(line.split(' ').map((field) => field.split(/=(.*)/s).slice(0, 2))))
    .filter((client) => client.name === name);
}

/** The major version of redis that a server has or emulates: Valkey reports 7. */
async function majorOf(server) {
  return Number(/redis_version:(\d+)/.exec(await server.command('INFO', 'server'))[1]);
}

/** RESP3 as CLIENT LIST shows it; nothing before redis 7. */
async function resp3(server) {
  return (await majorOf(server)) < 7 ? undefined : '3';
}

/** Kills the connections with this name, and resolves once they are gone. */
async function cut(server, name) {
  for (const { id } of await connections(server, name)) {
    await server.command('CLIENT', 'KILL', 'ID', id);
    const isGone = async () => (await connections(server, name)).every((client) => client.id !== id);
    await until(isGone, { ...patient, what: 'the end of a connection' });
  }
}

/** Checks that no printed form of an error contains these texts. */
function assertHidden(error, ...secrets) {
  const everything = [
    inspect(error, { depth: 9, showHidden: true }),
    error.stack,
    JSON.stringify(error),
  ].join('\n');
  for (const secret of secrets) assert.ok(!everything.includes(secret), everything);
}

/**
 * Waits for a resource that another client holds, deletes its key, and resolves with the milliseconds until the waiter has
 * acquired it: few, or most of a second where the waiter has to poll.
 */
async function wakeUp(server, reservation, resource, { key = `reservation-${resource}`, db = 0 } = {}) {
  const client = server.client({ db });
  await client.set(key, 'somebody', 'EX', 600);
  const start = (await calls(client)).set;
  const waiting = reservation.wait_until_lock(resource, { timeout: patient.timeout });
  // On a new connection a second try follows the first at once. It would find a change between the two.
  let tries = start;
  const hasTried = async () => {
    const before = tries;
    tries = (await calls(client)).set;
    return tries > start && tries === before;
  };
  await until(hasTried, { ...patient, interval: 30, what: 'its first tries' });
  await client.del(key);
  const freed = performance.now();
  assert.equal(await waiting, key);
  const after = performance.now() - freed;
  client.disconnect();
  return after;
}

async function calls(client) {
  const text = await client.info('commandstats');
  return { set: Number(/cmdstat_set:calls=(\d+)/.exec(text)[1]) };
}

module.exports = { patient, reserve, errorOf, connections, majorOf, resp3, cut, assertHidden, wakeUp };
