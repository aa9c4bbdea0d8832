// Scenario: somebody else deletes, overwrites or flushes a held key, or redis restarts without it: the time until the holder
// knows, and what that costs while nothing happens.
'use strict';

const { setTimeout: sleep } = require('node:timers/promises');
const { median, quantile } = require('../lib/statistics');

const TTL = 30000;
const INTERVAL = 10000;
// From this age on our leases are watched, and some more.
const AGE = 1500;
const SECONDS = 10;

const now = () => Number(process.hrtime.bigint()) / 1e6;

const changes = {
  deleted: (client, key) => client.del(key),
  overwritten: (client, key) => client.set(key, 'a thief', 'PX', 60000),
};

async function round({ entry, start, server }) {
  const figures = {};
  const settings = { ttl: TTL, heartbeat: entry.heartbeat || INTERVAL };
  const all = [];
  for (const [name, change] of Object.entries(changes)) {
    const found = await changed(entry, await start(settings), server, change);
    figures[name] = median(found.map((one) => one.told));
    all.push(...found);
    await server.clear();
  }
  figures.told = quantile(
    all.map((one) => one.told),
    0.99,
  );
  if (all[0].held !== undefined)
    figures.held = quantile(
      all.map((one) => one.held),
      0.99,
    );
  figures.flushed = await flushed(entry, await start(settings), server);
  await server.clear();
  for (const [name, count] of Object.entries(entry.counts || {})) {
    const { total, cpu } = await cost(await start({ ttl: TTL, heartbeat: INTERVAL }), server, count);
    figures[`commands${name}`] = total / SECONDS;
    figures[`cpu${name}`] = cpu;
    await server.clear();
  }
  return figures;
}

/** Changes one key after the other. Gives how long each loss took. */
async function changed(entry, worker, server, change) {
  const times = entry.times || 100;
  await worker.call('hold', times);
  await sleep(AGE);
  const found = [];
  for (let index = 0; index < times; index += 1) {
    const keys = await server.client.keys(`*loss-${index}`);
    const [key] = keys.filter((one) => one.endsWith(`loss-${index}`));
    const told = worker.call('lost', index);
    await sleep(5 + Math.random() * 5);
    const began = now();
    await change(server.client, key);
    const { at, held } = await told;
    found.push({ told: at - began, held: held === undefined ? undefined : held - began });
  }
  await worker.kill();
  return found;
}

/** The time from a FLUSHALL until the loss of the last of 100 locks is told. */
async function flushed(entry, worker, server) {
  const times = entry.times || 100;
  await worker.call('hold', times);
  await sleep(AGE);
  const told = worker.call('all_lost');
  await sleep(20);
  const began = now();
  await server.client.flushall();
  const last = await told;
  await worker.kill();
  return last - began;
}

/** The commands, and the CPU of the process in % of a core, while so many are held. */
async function cost(worker, server, count) {
  await worker.call('hold', count);
  // The watches of many begin over some seconds.
  await sleep(2 * INTERVAL);
  const { value, total } = await server.watch(() => worker.call('idle', SECONDS));
  await worker.kill();
  return { total, cpu: (value / SECONDS / 1e6) * 100 };
}

const worker = {
  async hold(context, count) {
    const session = await context.session();
    const { kept } = context;
    kept.locks = [];
    while (kept.locks.length < count) {
      const some = Array.from({ length: Math.min(500, count - kept.locks.length) }, (_, offset) => {
        const one = { at: undefined, told: () => {} };
        one.lock = session.make(`loss-${kept.locks.length + offset}`, () => {
          one.at = now();
          one.told();
        });
        return one;
      });
      await Promise.all(some.map((one) => one.lock.acquire()));
      kept.locks.push(...some);
    }
  },

  /** Gives when the loss of a lock was told, and when it was no longer held, if the contender can say that. */
  async lost({ kept }, index) {
    const one = kept.locks[index];
    let held;
    const look = () => {
      if (held !== undefined || one.lock.is_held === undefined) return;
      if (one.lock.is_held()) return setImmediate(look);
      held = now();
    };
    look();
    if (one.at === undefined) await new Promise((resolve) => (one.told = resolve));
    if (one.lock.is_held !== undefined && held === undefined) held = one.at;
    return { at: one.at, held };
  },

  /** Gives when the last loss was told. */
  async all_lost({ kept }) {
    const waits = kept.locks.map(
      (one) => one.at === undefined && new Promise((resolve) => (one.told = resolve)),
    );
    await Promise.all(waits);
    return Math.max(...kept.locks.map(({ at }) => at));
  },

  async idle({ measure }, seconds) {
    const { cpu } = await measure(() => sleep(seconds * 1000));
    return cpu;
  },
};

module.exports = {
  title: 'from a foreign change of a held key until its holder knows; the interval is 10 s',
  rounds: 1,
  entries: [
    { id: 'ours', counts: { thousand: 1000, tenThousand: 10000 } },
    { id: 'redlock', times: 3 },
    { id: 'redis-semaphore', times: 3 },
  ],
  measures: [
    { key: 'deleted', label: 'DEL', unit: 'ms', best: 'low' },
    { key: 'overwritten', label: 'SET', unit: 'ms', best: 'low' },
    { key: 'told', label: 'p99', unit: 'ms', best: 'low' },
    { key: 'held', label: 'p99 of', unit: 'held, ms', best: 'low' },
    { key: 'flushed', label: 'FLUSHALL', unit: 'all, ms', best: 'low' },
    { key: 'commandsthousand', label: '1,000', unit: 'cmd/s', best: 'low' },
    { key: 'cputhousand', label: '1,000', unit: '%', best: 'low' },
    { key: 'commandstenThousand', label: '10,000', unit: 'cmd/s', best: 'low' },
    { key: 'cputenThousand', label: '10,000', unit: '%', best: 'low' },
  ],
  aims: [
    { text: 'p99 until held is false, ms (< 5)', value: ({ figure }) => figure('ours', 'held'), atMost: 5 },
  ],
  round,
  worker,
};
