// The random run of the waiting tests: a server, some processes on few keys, a SIGKILL now and then. Gives a history in the
// form of a torture run, for its checker.
'use strict';

const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { setTimeout: sleep } = require('node:timers/promises');
const { startChild } = require('../support/child');
const { startServer } = require('../support/server');
const { within } = require('../support/wait');
const { now } = require('../torture/clock');
const { readHistory } = require('../torture/history');
const { Monitor } = require('../torture/monitor');
const { makeRandom } = require('../torture/random');

/** Resolves with the events of a run, ordered by time. `seed` decides everything except the timing of the machine. */
async function randomRun(t, { seed, seconds, processes, instances, keys }) {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'reservation-random-'));
  t.after(() => fs.rmSync(folder, { recursive: true, force: true }));
  const server = await startServer(t);
  const run = new Run(t, server, { seed, instances, keys, folder });
  await run.listen();
  try {
    await Promise.all(Array.from({ length: processes }, (_, number) => run.start(`w${number}`, 0)));
    await run.kill(makeRandom(`${seed}/kills`), seconds);
    await run.close();
  } finally {
    run.monitor.end();
  }
  if (run.trouble) throw run.trouble;
  return readHistory(folder, run.events);
}

class Run {
  constructor(t, server, settings) {
    Object.assign(this, { t, server, settings, events: [], children: new Map(), ending: false, faults: 0 });
  }

  record(who, event, fields, t = now()) {
    this.events.push({ t, w: who, n: this.events.length, e: event, ...fields });
  }

  async listen() {
    const record = (...event) => this.record('redis', ...event);
    this.monitor = new Monitor(this.server, this.settings.keys, record, () => {
      this.trouble = new Error("MONITOR's connection broke");
    });
    await this.monitor.attach();
  }

  /** Replaces processes that have died, as long as the run lasts. */
  async start(slot, generation) {
    const { seed, folder, keys, instances } = this.settings;
    const name = `${slot}g${generation}`;
    const worker = {
      ...{ name, seed: `${seed}/${name}`, file: path.join(folder, `${name}.jsonl`), keys, instances },
      ...{ host: this.server.host, port: this.server.port, deadly: true },
    };
    const env = { RANDOM_WORKER: JSON.stringify(worker), JOB_ID: '' };
    const child = startChild(this.t, path.join(__dirname, 'random-worker.js'), { env });
    this.children.set(slot, { child, name });
    child.exited.then(({ code, signal }) => {
      this.record('chaos', 'exit', { worker: name, code, signal, stderr: child.stderr });
      this.children.delete(slot);
      if (!this.ending) this.start(slot, generation + 1).catch((error) => (this.trouble = error));
    });
    await child.message((message) => message === 'up').catch(() => {}); // it may have died already
  }

  async kill(random, seconds) {
    const end = now() + seconds * 1000;
    while (now() < end) {
      await sleep(random.between(500, 1500));
      const [slot, victim] = random.pick([...this.children.entries()]) || [];
      if (!victim) continue;
      this.faults += 1;
      const fault = { id: this.faults, name: 'kill', scope: 'process', slot, worker: victim.name };
      this.record('chaos', 'fault', { ...fault, state: 'begins' });
      await victim.child.kill();
      this.record('chaos', 'fault', { ...fault, state: 'over' });
    }
  }

  /** All processes finish, and all keys lapse. */
  async close() {
    this.ending = true;
    this.record('chaos', 'peace', {});
    const left = [...this.children.values()];
    for (const { child } of left) child.process.send('drain', () => {}); // it may have died just now
    for (const { child, name } of left) {
      await within(10000, child.exited).catch(() => this.record('chaos', 'stuck', { worker: name }));
    }
    await sleep(700); // the ttl of the last killed process
    const values = await this.server.client().mget(this.settings.keys.map((key) => `reservation-${key}`));
    this.record('chaos', 'final', { left: values.filter(Boolean) });
  }
}

module.exports = { randomRun };
