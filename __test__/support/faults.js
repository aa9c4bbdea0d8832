// What the fault tests share: children with reservations, and views of the traffic between a client and its server during a
// fault.
'use strict';

const { startChild } = require('./child');
const { commandCalls } = require('./commands');
const { until } = require('./wait');

/** For conditions that must come true, however busy the machine is. */
const patient = { timeout: 20000 };

/**
 * A child process that runs this code, with ReserveResource, make(interval, ttl, options) and
 * report(error, ...values), which sends what a callback got: `{ code, message, lost }` or `{ values }`.
 */
function runChild(t, server, code, options = {}) {
  const preamble = `
    const ReserveResource = require('./index.js');
    const make = (interval = 500, ttl = 30, options = undefined, log = false) =>
      new ReserveResource('me', process.env.REDIS_HOST, process.env.REDIS_PORT, interval, ttl, log, '', options);
    const report = (error, ...values) =>
      process.send(error ? { code: error.code, message: error.message, lost: error.lost } : { values });
    `;
  const env = { ...server.environment, ...options.env };
  return startChild(t, { code: preamble + code }, { ...options, env });
}

/** A wait that ends with the test at the latest: a pending one would keep the process of the tests alive. */
function wait(t, reservation, resource) {
  const waiting = reservation.wait_until_lock(resource, { signal: t.signal });
  waiting.catch(() => {});
  return waiting;
}

/** The bytes of a SET of this key, or of a script called for it, as they pass through a proxy. */
const setOf = (key) => new RegExp(`\\r\\nSET\\r\\n\\$\\d+\\r\\n${key}\\r\\n`);
const scriptFor = (key) => new RegExp(`\\r\\nEVALSHA\\r\\n[^]*\\r\\n${key}\\r\\n`);

/** Resolves once a matching request has reached the proxy, which passes it on like all others. */
function requestSeen(proxy, matches) {
  return new Promise((resolve) => {
    proxy.set('up', {
      onRequest: {
        matches: (chunk) => chunk.toString('latin1').search(matches) >= 0,
        act: () => {
          resolve();
          return 'forward';
        },
      },
    });
  });
}

/** The open links go silently dead. New links work. */
function loseOpenLinks(proxy) {
  proxy.lose();
  proxy.rules = { up: {}, down: {} };
}

/** Resolves once the server has run so many more commands of that name. */
async function ran(client, name, times = 1) {
  const before = (await commandCalls(client))[name] || 0;
  await until(async () => ((await commandCalls(client))[name] || 0) >= before + times, {
    ...patient,
    what: `${times} × ${name}`,
  });
}

/** Resolves once this much time has passed since `start`, for tests that are about time. */
async function passed(start, ms) {
  await until(() => performance.now() - start >= ms, { timeout: ms + 5000, what: `${ms} ms` });
}

/** How many errors with this code redis has replied. */
async function refusals(client, code) {
  const found = new RegExp(`errorstat_${code}:count=(\\d+)`).exec(await client.info('errorstats'));
  return found ? Number(found[1]) : 0;
}

/** Forbids all subcommands of CLIENT except these, in a form that every server understands. */
async function allowOnlyClient(client, ...subcommands) {
  await client.acl('SETUSER', 'default', '-client', ...subcommands.map((name) => `+client|${name}`));
}

module.exports = {
  patient,
  runChild,
  wait,
  setOf,
  scriptFor,
  requestSeen,
  loseOpenLinks,
  ran,
  passed,
  refusals,
  allowOnlyClient,
};
