// The child processes of a round: starts them, calls the functions of their scenario, ends them with the round.
'use strict';

const path = require('node:path');
const { startChild } = require('../../__test__/support/child');
const { within } = require('../../__test__/support/wait');

const program = path.join(__dirname, 'worker.js');

/** The children of one round. */
class Crew {
  constructor(scenario, server, environment) {
    this.scenario = scenario;
    this.server = server;
    this.environment = environment;
    this.workers = [];
  }

  /** A child for this entry of the scenario. `settings` are those of its contender. */
  async start(entry, settings = {}, { execArgv = [] } = {}) {
    const { host, port } = this.server;
    const given = { host, port, ttl: 30000, ...entry.settings, ...settings };
    const child = startChild(null, program, {
      args: [this.scenario.name, entry.id, JSON.stringify(given)],
      env: this.environment,
      execArgv,
    });
    const worker = new Worker(child);
    this.workers.push(worker);
    await child.message({ ready: true });
    return worker;
  }

  /** The highest memory of any child, in MB. */
  get peak() {
    return Math.max(...this.workers.map((worker) => worker.peak));
  }

  async end() {
    await Promise.all(this.workers.map(({ child }) => child.kill()));
    this.workers = [];
  }
}

class Worker {
  constructor(child) {
    this.child = child;
    this.calls = new Map();
    this.count = 0;
    this.peak = 0;
    this.listener = () => {};
    child.messages.listen((message) => this.hear(message));
    child.exited.then(() => this.fail());
  }

  get pid() {
    return this.child.pid;
  }

  /** Calls `worker[method]` of the scenario in the child. Resolves with its result. */
  call(method, ...args) {
    const call = (this.count += 1);
    const answer = new Promise((resolve, reject) => this.calls.set(call, { resolve, reject }));
    this.child.send({ call, method, args });
    return within(300000, answer, `the answer to ${method}`);
  }

  /** Calls back with each message that the child sends during a call. */
  listen(listener) {
    this.listener = listener;
  }

  kill(signal) {
    return this.child.kill(signal);
  }

  hear({ call, value, error, peak, event }) {
    if (event !== undefined) this.listener(event);
    const waiting = this.calls.get(call);
    if (!waiting) return;
    this.calls.delete(call);
    if (error !== undefined) waiting.reject(new Error(error));
    else waiting.resolve(value);
    if (peak > this.peak) this.peak = peak;
  }

  fail() {
    for (const { reject } of this.calls.values()) {
      reject(this.child.describe(new Error('the child ended before it answered')));
    }
    this.calls.clear();
  }
}

module.exports = { Crew };
