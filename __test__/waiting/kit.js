// What the waiting tests share: processes that wait, looks at how often a key was asked for, and times on one clock.
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
 * Starts a process that waits, with a connection that is up. No heartbeat and no ttl of its own comes into a test unless
 * it is asked for.
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
    this.answers = new Map(); // a call's id -> who waits for its answer
    this.count = 0;
    this.log = [];
    this.child.messages.listen(({ id, line, ...answer }) => {
      if (line) this.log.push(line);
      else this.answers.get(id).resolve(answer);
    });
    // Who waits for an answer at the end of a test is not to keep the tests waiting.
    this.child.exited.then(() => {
      const error = this.child.describe(new Error('it has ended before it has answered'));
      for (const { reject } of this.answers.values()) reject(error);
    });
  }

  /** Calls a method of the instance `who`; resolves with what its callback got, and when: `{ at, error, value, … }`. */
  callOf(who, method, ...args) {
    const answer = within(30000, this.start(who, method, ...args).answer, `the answer to ${who}'s ${method}`);
    answer.catch(() => {});
    return answer;
  }

  call(method, ...args) {
    return this.callOf('someone', method, ...args);
  }

  /** The same, but it can be ended: `{ id, answer }`. */
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

/** How often somebody has tried to take a key. */
async function tries(client) {
  return (await commandCalls(client)).set || 0;
}

/** Resolves once there were so many tries since `before`. */
async function tried(client, before, times = 1) {
  await until(async () => (await tries(client)) >= before + times, {
    timeout: 20000,
    interval: 3,
    what: 'a try',
  });
}

/**
 * Starts to wait, in `peer`, and resolves once it has tried in vain: `{ answer, since }`. Its poll is 0.9 s after `since`,
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
 * What is less than this, in ms, was no poll: who has just looked in vain polls 0.9 s later at the earliest. How many
 * milliseconds it is, is for the benchmarks (hand-off, expiry, herd): here it is the machine's, too.
 */
const WOKEN = 450;

function median(values) {
  return [...values].sort((one, other) => one - other)[Math.floor(values.length / 2)];
}

const show = (values) => `[${values.map((value) => value.toFixed(1)).join(', ')}] ms`;

/** redis-cli, as somebody at a terminal would use it. */
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
