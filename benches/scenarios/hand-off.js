// Scenario: one process holds, another waits; the time from the release (or a DEL by another client) to the acquisition.
'use strict';

const { setTimeout: sleep } = require('node:timers/promises');
const { median } = require('../lib/statistics');

const now = () => Number(process.hrtime.bigint()) / 1e6;

async function round({ entry, start, server }) {
  const [holder, waiter] = [await start(), await start()];
  const times = entry.times || 15;
  const released = [];
  const { total } = await server.watch(async () => {
    for (let index = 0; index < times; index += 1) {
      released.push(await handOver(holder, waiter, `released-${index}`, () => holder.call('release')));
    }
  });
  const deleted = [];
  // A waiter that only learns of releases from the releasing client would not notice this for long.
  for (let index = 0; index < times && !entry.deaf; index += 1) {
    deleted.push(await handOver(holder, waiter, `deleted-${index}`, () => remove(server)));
    await holder.call('forget');
  }
  return {
    released: median(released),
    deleted: deleted.length > 0 ? median(deleted) : undefined,
    commands: total / times,
  };
}

async function handOver(holder, waiter, resource, free) {
  await holder.call('acquire', resource);
  const had = waiter.call('wait', resource);
  // At a random time between two polls.
  await sleep(30 + Math.random() * 20);
  const freed = await free();
  const ms = (await had) - freed;
  return ms;
}

/** As by redis-cli: deletes the key by its name. */
async function remove(server) {
  const keys = await server.client.keys('*');
  const freed = now();
  await server.client.del(keys);
  return freed;
}

const worker = {
  async acquire(context, resource) {
    context.kept.lock = (await context.session()).make(resource);
    if (!(await context.kept.lock.acquire())) throw new Error('a free resource could not be locked');
  },

  /** Gives the time before the release, on a clock that all processes of the machine share. */
  async release({ kept }) {
    const freed = now();
    await kept.lock.release();
    return freed;
  },

  /** Releases what was deleted, which finds the loss. Nothing waits for that. */
  async forget({ kept }) {
    kept.lock.release().catch(() => {});
  },

  /** Gives the time of the acquisition. */
  async wait(context, resource) {
    const lock = (await context.session()).make(resource);
    await lock.wait();
    const had = now();
    await lock.release();
    return had;
  },
};

module.exports = {
  title: 'from a release to a waiter in another process',
  rounds: 3,
  entries: [
    'ours',
    { id: 'original', times: 1 },
    { id: 'redlock', times: 4 },
    { id: 'redlock', key: 'redlock-1', label: 'redlock 5, each ms', settings: { poll: 1 } },
    'redis-semaphore',
    {
      id: 'redis-semaphore',
      key: 'redis-semaphore-1',
      label: 'redis-semaphore, each ms',
      settings: { poll: 1 },
    },
    { id: 'simple-redis-mutex', deaf: true },
    { id: 'warlock', label: 'warlock, each ms', settings: { poll: 1 } },
    { id: 'redlock-universal', times: 8 },
    { id: 'redis-kit', times: 4 },
  ],
  measures: [
    { key: 'released', label: 'released', unit: 'ms', best: 'low' },
    { key: 'deleted', label: 'deleted', unit: 'ms', best: 'low', spread: true },
    { key: 'commands', label: 'com-', unit: 'mands', best: 'low' },
    { key: 'peak', label: 'peak', unit: 'MB', best: 'low' },
  ],
  aims: [
    { text: 'after a release, ms (≤ 1.3)', value: ({ figure }) => figure('ours', 'released'), atMost: 1.3 },
    {
      text: 'after a foreign DEL, ms (≤ 1.3)',
      value: ({ figure }) => figure('ours', 'deleted'),
      atMost: 1.3,
    },
  ],
  round,
  worker,
};
