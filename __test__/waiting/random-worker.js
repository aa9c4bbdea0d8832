// One process of the random run: instances that wait for the same few keys again and again, in every possible way, and hold
// for a moment. Records what they see, as in a torture run. random-run.js starts it.
'use strict';

const fs = require('node:fs');
const ReserveResource = require('../../index.js');
const { now } = require('../torture/clock');
const { Instance } = require('../torture/instance');
const { makeRandom } = require('../torture/random');

/** `{ name, seed, file, host, port, keys, instances }` */
const settings = JSON.parse(process.env.RANDOM_WORKER);

const file = fs.openSync(settings.file, 'a');

/** Writes one event of the history synchronously, so that a SIGKILL loses none. */
function record(event, fields, t = now()) {
  fs.writeSync(file, `${JSON.stringify({ t, w: settings.name, e: event, ...fields })}\n`);
}

const worker = { settings, record, random: makeRandom(settings.seed), ReserveResource, draining: false };

class Waiter extends Instance {
  chooseSettings() {
    // After this time, others acquire the keys of a killed process.
    return { ttl: 600, hears: true, interval: undefined };
  }

  async acquire(key) {
    const { random, reservation } = this;
    const way = random.weighted({ lock: 1, wait: 4, timeout: 3, abort: 3 });
    if (way === 'lock') return this.ask('lock', { key }, (done) => reservation.lock(key, done));
    const op = this.nextName();
    const timeout =
      way === 'timeout' ? random.pick([0, random.between(1, 30), random.between(30, 400)]) : undefined;
    const controller = way === 'abort' ? new AbortController() : undefined;
    const abort = () => {
      this.record('abort', { op });
      controller.abort();
    };
    const timer = controller && setTimeout(abort, random.between(0, 200));
    const options = { timeout, signal: controller && controller.signal };
    const got = await this.ask('wait', { op, key, timeout }, (done) =>
      reservation.wait_until_lock(key, options, done),
    );
    clearTimeout(timer);
    return got;
  }

  async use() {
    const { random } = this;
    const how = random.weighted({ nothing: 3, moment: 6, while: 0.3, death: settings.deadly ? 0.05 : 0 });
    if (how === 'death') {
      record('dies', { how: 'kill' });
      process.kill(process.pid, 'SIGKILL');
      for (;;); // a signal to this process may arrive late
    }
    if (how === 'moment') await this.pause(random.between(1, 8));
    if (how === 'while') await this.pause(random.between(100, 900));
  }
}

const waiters = Array.from({ length: settings.instances }, (_, number) => new Waiter(worker, number));

process.on('uncaughtException', (error) => record('uncaught', { message: error.stack }));
process.on('message', () => {
  worker.draining = true;
  for (const waiter of waiters) waiter.hurry();
});

async function main() {
  record('up', { pid: process.pid });
  process.send('up');
  await Promise.all(waiters.map((waiter) => waiter.live()));
  record('drained');
  process.disconnect();
}

main();
