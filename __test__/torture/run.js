// One torture run: a server, a proxy and a process for each worker, chaos for a while, then calm and an orderly end. Gives the
// whole history, and judges nothing.
'use strict';

const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { setTimeout: sleep } = require('node:timers/promises');
const { startChild, root } = require('../support/child');
const { startProxy } = require('../support/proxy');
const { startServer } = require('../support/server');
const { until, within } = require('../support/wait');
const { chaos } = require('./chaos');
const { now } = require('./clock');
const { readHistory } = require('./history');
const { Monitor } = require('./monitor');
const { makeRandom } = require('./random');

/** Redis writes to its file before it confirms, so a SIGKILL of redis loses nothing. */
const PERSISTENT = ['--appendonly', 'yes', '--appendfsync', 'no'];

/** How long the workers may take to end by themselves, and the last keys to lapse. */
const PEACE = 20000;

/**
 * Resolves with the events of a run, ordered by time: `[{ t, w, e, … }]`.
 *
 * `seed`: decides everything except the timing of the machine. `seconds`: how long the chaos lasts.
 * `workers`, `instances` (of each), `keys`: how many. `subject`: the path of the module under test.
 * `faults`: the names of the allowed ones (see faults.js), by default all. `pace`: below 1 is more faults.
 */
async function run({ seed, seconds, workers = 4, instances = 3, keys = 3, subject = root, faults, pace }) {
  const random = makeRandom(seed);
  const arena = new Arena({ seed, workers, instances, keys, subject });
  try {
    await arena.open();
    const controller = new AbortController();
    const storm = chaos(arena, random.fork('chaos'), controller.signal, { only: faults, pace });
    await sleep(seconds * 1000);
    controller.abort();
    await storm;
    await arena.close();
    if (arena.troubles.length > 0) throw arena.troubles[0];
    return readHistory(arena.folder, arena.events);
  } finally {
    await arena.destroy();
  }
}

class Arena {
  constructor({ seed, workers, instances, keys, subject }) {
    this.settings = { seed, instances, subject };
    this.keys = Array.from({ length: keys }, (_, number) => `k${number}`);
    this.slots = Array.from({ length: workers }, (_, number) => ({
      name: `w${number}`,
      generation: 0,
      child: null,
    }));
    this.folder = fs.mkdtempSync(path.join(os.tmpdir(), 'reservation-torture-'));
    this.events = [];
    this.troubles = [];
    this.ending = false;
    this.record = this.recorder('chaos');
  }

  recorder(who) {
    return (event, fields, t = now()) => {
      this.events.push({ t, w: who, n: this.events.length, e: event, ...fields });
    };
  }

  async open() {
    this.server = await startServer(null, { args: PERSISTENT });
    this.direct = this.server.client();
    this.monitor = new Monitor(this.server, this.keys, this.recorder('redis'), (pid) => this.hasBroken(pid));
    await this.monitor.attach();
    await Promise.all(this.slots.map((slot) => this.openSlot(slot)));
  }

  /**
   * MONITOR's connection ended unexpectedly: the record has a gap, and cannot be judged. If redis still runs, a client has killed
   * the wrong connection (for example by `CLIENT KILL ID` with a number from before the server restarted).
   */
  hasBroken(pid) {
    const { process: program, output } = this.server;
    const stillRuns =
      program && program.pid === pid && program.exitCode === null && program.signalCode === null;
    const state = stillRuns ? 'redis still runs, so somebody has killed it' : 'redis has ended by itself';
    this.troubles.push(
      new Error(`MONITOR's connection broke: ${state}. Redis said:\n${output.slice(-2000)}`),
    );
  }

  async openSlot(slot) {
    slot.proxy = await startProxy(null, this.server);
    slot.gate = new Gate(slot.proxy);
    await this.startWorker(slot);
  }

  async startWorker(slot) {
    const { seed, instances, subject } = this.settings;
    const name = `${slot.name}g${slot.generation}`;
    slot.generation += 1;
    const { host, port } = slot.proxy;
    const direct = { host: this.server.host, port: this.server.port };
    const settings = {
      ...{ name, seed: `${seed}/${name}`, file: path.join(this.folder, `${name}.jsonl`) },
      ...{ subject, host, port, direct, keys: this.keys, instances },
    };
    const child = startChild(null, path.join(__dirname, 'worker.js'), {
      env: { TORTURE_WORKER: JSON.stringify(settings), JOB_ID: '' },
    });
    child.name = name;
    slot.child = child;
    child.exited.then(({ code, signal }) => this.ended(slot, child, code, signal));
    await child
      .message((message) => message === 'up', { timeout: 30000 })
      .catch((error) => {
        // It may have been killed, or have died, before it was up. Otherwise it does not start at all.
        if (!child.ended) throw error;
      });
  }

  /** A worker has ended. Another replaces it as long as the run lasts. */
  ended(slot, child, code, signal) {
    this.record('exit', { worker: child.name, code, signal, stderr: child.stderr.slice(0, 4000) });
    slot.child = null;
    if (this.ending) return;
    this.startWorker(slot).catch((error) => this.troubles.push(error));
  }

  async startServerAgain() {
    // Its port may be somebody's outgoing port just now.
    await until(() => this.server.start().then(() => true), {
      timeout: 20000,
      interval: 100,
      what: 'redis again',
    });
    await this.monitor.attach();
  }

  /** All faults are over. All workers finish, and all keys lapse. */
  async close() {
    this.ending = true;
    this.record('peace', {});
    const children = this.slots.map(({ child }) => child).filter(Boolean);
    for (const child of children) if (!child.ended && child.process.connected) child.send('drain');
    const ends = children.map((child) => within(PEACE, child.exited, `the end of ${child.name}`));
    const outcomes = await Promise.allSettled(ends);
    outcomes.forEach(({ status }, index) => {
      if (status === 'rejected') this.record('stuck', { worker: children[index].name });
    });
    const names = this.keys.map((key) => `reservation-${key}`);
    const left = async () => (await this.direct.mget(names)).filter(Boolean);
    await until(async () => (await left()).length === 0, { timeout: PEACE, interval: 50 }).catch(() => {});
    this.record('final', { left: await left() });
  }

  async destroy() {
    this.ending = true;
    for (const { child } of this.slots) if (child) await child.kill();
    for (const { proxy } of this.slots) if (proxy) await proxy.stop();
    if (this.monitor) this.monitor.end();
    if (this.server) await this.server.stop();
    fs.rmSync(this.folder, { recursive: true, force: true });
  }
}

/** The gate of a proxy. Several faults may close it at once. It opens when the last one ends. */
class Gate {
  constructor(proxy) {
    this.proxy = proxy;
    this.closers = 0;
  }

  close() {
    this.closers += 1;
    this.proxy.refuse();
  }

  async open() {
    this.closers -= 1;
    if (this.closers > 0) return;
    // Its port may be somebody's outgoing port just now.
    await until(
      () =>
        this.proxy.accept().then(
          () => true,
          (error) => {
            this.proxy.refuse(); // otherwise the proxy counts as accepting
            throw error;
          },
        ),
      { timeout: 20000, interval: 50, what: `a proxy's port ${this.proxy.port}` },
    );
  }
}

module.exports = { run };
