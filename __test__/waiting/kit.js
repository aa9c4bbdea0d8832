// What the waiting tests share: processes that wait, counts of tries, and times on one clock.
'use strict';

const { execFile } = require('node:child_process');
const path = require('node:path');
const { promisify } = require('node:util');
const { startChild } = require('../support/child');
const { commandCalls } = require('../support/commands');
const { until, within } = require('../support/wait');
const { now } = require('../torture/clock');

const key = 'reservation-job';

/**
 * Starts a process for waits, whose connection is up. Its ttl and heartbeat are so long that they do not affect a test that
 * sets none.
 */
async function startPeer(t, server, { ttl = 600, interval = 300000, by = 'peer' } = {}) {
  const peer = new Peer(t, server, { ttl, interval, by });
  await peer.call('lock', 'warm-up');
  await peer.call('release');
  return peer;
}

class Peer {
  constructor(t, server, settings) {
    const env = { ...server.environment, PEER: JSON.stringify(settings), JOB_ID: '' };
    this.child = startChild(t, path.join(__dirname, 'peer.js'), { env });
    this.answers = new Map(); // the id of a call -> what resolves with its answer
    this.count = 0;
    this.log = [];
    this.child.messages.listen(({ id, line, ...answer }) => {
      if (line) this.log.push(line);
      else this.answers.get(id).resolve(answer);
    });
    // A pending answer at the end of a test must not keep the tests waiting.
    this.child.exited.then(() => {
      const error = this.child.describe(new Error('it has ended before it has answered'));
      for (const { reject } of this.answers.values()) reject(error);
    });
  }

  /** Calls a method of the instance `who`. Resolves with the answer and its time: `{ at, error, value, … }`. */
  callOf(who, method, ...args) {
    const answer = within(30000, this.start(who, method, ...args).answer, `the answer to ${who}'s ${method}`);
    answer.catch(() => {});
    return answer;
  }

  call(method, ...args) {
    return this.callOf('someone', method, ...args);
  }

  /** The same, for a call that `abort` can end: `{ id, answer }`. */
  start(who, method, ...args) {
    this.count += 1;
    const id = this.count;
    const answer = new Promise((resolve, reject) => {
      this.answers.set(id, { resolve, reject });
    });
    answer.catch(() => {});
    this.child.send({ id, who, method, args });
    return { id, answer };
  }

  /** Aborts a wait that was started with `{ abortable: true }`. */
  abort(id) {
    this.child.send({ abort: id });
  }

  linesOf(title) {
    return this.log.filter((line) => line.title === title);
  }
}

/** The number of tries to acquire a key. */
async function tries(client) {
  return (await commandCalls(client)).set || 0;
}

/** Resolves after so many tries since `before`. */
async function tried(client, before, times = 1) {
  await until(async () => (await tries(client)) >= before + times, {
    timeout: 20000,
    interval: 3,
    what: 'a try',
  });
}

/**
 * Starts a wait in `peer`, and resolves after its first failed try: `{ answer, since }`. Its poll comes 0.9 s after `since`
 * or later.
 */
async function startWaiting(peer, client, resource = 'job', who = 'waiter') {
  const before = await tries(client);
  const since = now();
  const answer = peer.callOf(who, 'wait_until_lock', resource);
  await tried(client, before);
  return { answer, since };
}

/**
 * A wake within this time, in ms, was no poll: the first poll comes 0.9 s after a failed look. The benchmarks (hand-off,
 * expiry, herd) measure the milliseconds; in tests these depend on the load of the machine.
 */
const WOKEN = 450;

function median(values) {
  return [...values].sort((one, other) => one - other)[Math.floor(values.length / 2)];
}

const show = (values) => `[${values.map((value) => value.toFixed(1)).join(', ')}] ms`;

/** A command by redis-cli. */
async function redisCli(server, ...args) {
  const { stdout } = await promisify(execFile)('redis-cli', [
    '-h',
    server.host,
    '-p',
    String(server.port),
    ...args,
  ]);
  return stdout.trim();
}

module.exports = { key, startPeer, tries, tried, startWaiting, WOKEN, median, show, redisCli, now };
