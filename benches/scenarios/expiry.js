// Scenario: SIGKILL ends the holder; the time from the end of its ttl until a waiter in another process acquires the lock, in an
// empty database and with 200,000 other keys that have a ttl (redis then finds expired ones late).
'use strict';

const { setTimeout: sleep } = require('node:timers/promises');
const { median } = require('../lib/statistics');

const OTHERS = 200000;
const TTL = 1000;

const now = () => performance.timeOrigin + performance.now();

async function round({ entry, start, server }) {
  const settings = { ttl: TTL };
  const empty = await onePass(entry, start, server, settings);
  await server.clear();
  await fill(server);
  const full = await onePass(entry, start, server, settings);
  return { empty: median(empty), full: median(full), detail: { empty, full } };
}

/** Several resources at once, whose ends are further apart than a wake-up takes. */
async function onePass(entry, start, server, settings) {
  const times = entry.times || 10;
  const [holder, waiter] = [await start(settings), await start(settings)];
  const names = Array.from({ length: times }, (_, index) => `expiry-${index}`);
  const waits = [];
  for (const name of names) {
    const { length } = await holder.call('acquire', name, 25);
    if (length === 0) throw new Error('nothing was locked');
    waits.push(waiter.call('wait', name));
  }
  await holder.kill('SIGKILL');
  const ends = await expiries(server, names);
  const had = await Promise.all(waits);
  return had.map((moment, index) => moment - ends[index]);
}

/** When the key of each resource expires, by redis, in ms since 1970. */
async function expiries(server, names) {
  const keys = await server.client.keys('*expiry-*');
  return Promise.all(
    names.map(async (name) => {
      const key = keys.find(
        (one) => one.includes(name) && !/\d/.test(one.slice(one.indexOf(name) + name.length)),
      );
      if (key === undefined) throw new Error(`${name} ended before the holder was killed`);
      // Redis counts whole ms, and the key expires after this one. Old servers do not have the command.
      return server.client.pexpiretime(key).catch(async () => now() + (await server.client.pttl(key)));
    }),
  );
}

async function fill(server) {
  const script = `for i = 1, ARGV[1] do redis.call('SET', 'other:' .. i, 'x', 'PX', 600000 + i) end`;
  await server.client.eval(script, 0, OTHERS);
  await sleep(200);
}

const worker = {
  async acquire(context, resource, pause) {
    const { kept } = context;
    kept.locks ??= [];
    const lock = (await context.session()).make(resource);
    if (!(await lock.acquire())) throw new Error('a free resource could not be locked');
    kept.locks.push(lock);
    await sleep(pause);
    return kept.locks;
  },

  /** Gives the time of the acquisition. */
  async wait(context, resource) {
    const lock = (await context.session()).make(resource);
    await lock.wait();
    return now();
  },
};

module.exports = {
  title: "from the end of a dead holder's ttl to a waiter",
  rounds: 2,
  entries: [
    'ours',
    { id: 'original', times: 4 },
    'redlock',
    'redis-semaphore',
    {
      id: 'redis-semaphore',
      key: 'redis-semaphore-1',
      label: 'redis-semaphore, each ms',
      times: 5,
      settings: { poll: 1 },
    },
    { id: 'warlock', label: 'warlock, each ms', times: 5, settings: { poll: 1 } },
    'redlock-universal',
    'redis-kit',
  ],
  measures: [
    { key: 'empty', label: 'empty', unit: 'ms', best: 'low' },
    { key: 'full', label: '200,000', unit: 'others, ms', best: 'low', spread: true },
    { key: 'peak', label: 'peak', unit: 'MB', best: 'low' },
  ],
  aims: [
    { text: 'empty database, ms (≤ 2)', value: ({ figure }) => figure('ours', 'empty'), atMost: 2 },
    { text: '200,000 other keys, ms (≤ 2)', value: ({ figure }) => figure('ours', 'full'), atMost: 2 },
  ],
  round,
  worker,
};
