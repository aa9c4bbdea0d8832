// Scenario: the memory of a held lock, and of a waiter: the growth of the process for each of many.
'use strict';

async function round({ entry, start, server }) {
  const { held = 20000, waiting = 2000 } = entry;
  // V8's young generation grows with what a program has done, not with what it holds.
  const how = { execArgv: ['--expose-gc', '--max-semi-space-size=1'] };
  const settings = { ttl: 1800000, heartbeat: 600000 };
  const holder = await start(settings, how);
  await holder.call('hold', 'warm-', 2000);
  const shell = await holder.call('shell');
  const before = await holder.call('memory');
  await holder.call('hold', 'held-', held);
  const after = await holder.call('memory');
  const gross = (after.all - before.all) / held - shell;
  const heap = (after.heap - before.heap) / held - shell;
  const text = await lengths(server);
  if (!entry.waits) return { held: gross, heap, net: gross - text, text };
  const waiter = await start(settings, how);
  const crowd = await grow(waiter, 'wait', 'warm-1', waiting);
  return {
    held: gross,
    heap,
    net: gross - text,
    text,
    crowd: crowd.all - shell,
    crowdHeap: crowd.heap - shell,
  };
}

/** The growth for each of so many more. The first tenth does not count, since it adds what all share. */
async function grow(worker, method, resource, count) {
  await worker.call(method, resource, Math.ceil(count / 10));
  const before = await worker.call('memory');
  await worker.call(method, resource, count);
  const after = await worker.call('memory');
  return { all: (after.all - before.all) / count, heap: (after.heap - before.heap) / count };
}

/** The bytes of a key and its value, from one of them. */
async function lengths(server) {
  const keys = await server.client.keys('*held-1*');
  return keys[0].length + (await server.client.strlen(keys[0]));
}

const worker = {
  async hold(context, prefix, count) {
    const session = await context.session();
    const locks = [];
    while (locks.length < count) {
      const some = Array.from({ length: 500 }, (_, index) =>
        session.make(`${prefix}${locks.length + index}`),
      );
      await Promise.all(some.map((lock) => lock.acquire()));
      locks.push(...some);
    }
    (context.kept.all ??= []).push(locks);
  },

  async wait(context, resource, count) {
    const session = await context.session();
    const locks = Array.from({ length: count }, () => session.make(resource));
    for (const lock of locks) lock.wait();
    (context.kept.all ??= []).push(locks);
  },

  /** What the bench itself keeps for each: an object with three functions. */
  async shell({ settledMemory }) {
    const count = 20000;
    const before = await settledMemory();
    const make = (resource) => ({ acquire: () => resource, wait: () => resource, release: () => resource });
    const kept = Array.from({ length: count }, (_, index) => make(`shell-${index}`));
    const after = await settledMemory();
    return kept.length && (after.heap - before.heap) / count;
  },

  memory({ settledMemory }) {
    return settledMemory();
  },
};

module.exports = {
  title: 'memory of each lock that is held, and of each waiter',
  rounds: 3,
  entries: [
    { id: 'ours', held: 100000, waiting: 20000, waits: true },
    { id: 'ours', key: 'shared', label: 'one instance for all', held: 100000, settings: { shared: true } },
    'original',
    'redlock',
    { id: 'redis-semaphore', waits: true, waiting: 1000 },
    { id: 'simple-redis-mutex', waits: true },
    'redlock-universal',
    'redis-kit',
  ],
  measures: [
    { key: 'net', label: 'held, less', unit: 'key, value', best: 'low' },
    { key: 'held', label: 'held', unit: 'bytes', best: 'low' },
    { key: 'heap', label: 'of it', unit: 'JS', best: 'low' },
    { key: 'text', label: 'key and', unit: 'value', best: 'low' },
    { key: 'crowd', label: 'waiting', unit: 'bytes', best: 'low' },
    { key: 'crowdHeap', label: 'of it', unit: 'JS', best: 'low' },
    { key: 'peak', label: 'peak', unit: 'MB', best: 'low', hidden: true },
  ],
  aims: [
    {
      text: 'held, one instance for all: bytes beside key and value (< 400)',
      value: ({ figure }) => figure('shared', 'net'),
      atMost: 400,
    },
    {
      text: 'held, with an instance of its own: the same (< 400)',
      value: ({ figure }) => figure('ours', 'net'),
      atMost: 400,
    },
    { text: 'waiting, bytes (< 600)', value: ({ figure }) => figure('ours', 'crowd'), atMost: 600 },
  ],
  round,
  worker,
};
