// One process of a torture run, started by run.js: several instances that lock, hold and release on few keys, and a record of
// everything that they see. A SIGKILL loses none of it.
'use strict';

const { once } = require('node:events');
const fs = require('node:fs');
const Redis = require('ioredis');
const { now } = require('./clock');
const { Instance } = require('./instance');
const { makeRandom } = require('./random');

/** How often each hold is checked, in ms. */
const SAMPLE = 20;

/** `{ name, seed, file, subject, host, port, direct: { host, port }, keys, instances }`: see run.js. */
const settings = JSON.parse(process.env.TORTURE_WORKER);

const file = fs.openSync(settings.file, 'a');

/** Writes one event of the history synchronously. `t`: its time, by default now. */
function record(event, fields, t = now()) {
  fs.writeSync(file, `${JSON.stringify({ t, w: settings.name, e: event, ...fields })}\n`);
}

const worker = {
  settings,
  record,
  random: makeRandom(settings.seed),
  ReserveResource: require(settings.subject),
  draining: false,
  /** For what the lock guards: a separate direct connection to redis. It sends nothing twice or late. */
  data: new Redis({
    ...settings.direct,
    enableOfflineQueue: false,
    autoResendUnfulfilledCommands: false,
    maxRetriesPerRequest: 0,
    retryStrategy: () => 50,
    commandTimeout: 1500,
    disconnectTimeout: 50,
  }),
  /** Blocks the event loop of this process. Other threads go on. */
  block(ms) {
    const from = now();
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
    record('blocked', { from });
  },
  die(how) {
    record('dies', { how });
    if (how === 'exit') process.exit(3);
    process.kill(process.pid, 'SIGKILL');
    // A signal to this process may arrive late.
    for (;;);
  },
};

worker.data.on('error', () => {}); // runs cause outages on purpose

const instances = Array.from({ length: settings.instances }, (_, number) => new Instance(worker, number));

// Losses without a listener arrive here.
process.on('uncaughtException', (error) => {
  const instance = instances.find((one) => one.isLossOf(error));
  if (instance) instance.told(error, 'throw');
  else record('uncaught', { message: String((error && error.stack) || error) });
});

process.on('unhandledRejection', (error) => {
  record('uncaught', { message: `unhandled rejection: ${(error && error.stack) || error}` });
});

process.on('message', (message) => {
  if (message !== 'drain') return;
  worker.draining = true;
  for (const instance of instances) instance.hurry();
});

async function main() {
  record('up', { pid: process.pid });
  const sampler = setInterval(() => instances.forEach((instance) => instance.sampleAll()), SAMPLE);
  process.send('up');
  await once(worker.data, 'ready').catch(() => {}); // in an outage it becomes ready later
  await Promise.all(instances.map((instance) => instance.live()));
  record('drained');
  // Nothing is held and nothing is pending: the process must now end by itself.
  clearInterval(sampler);
  worker.data.disconnect();
  process.disconnect();
}

main();
