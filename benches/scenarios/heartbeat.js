// Scenario: one process holds many locks, and renews each of them every second: the cost, and the delay of renewals.
'use strict';

const { setTimeout: sleep } = require('node:timers/promises');

const TTL = 10000;
const INTERVAL = 1000;
const SECONDS = 3;
const LOOKS = 6;
const SAMPLE = 400;

async function round({ entry, start, server }) {
  const figures = {};
  for (const [key, count] of Object.entries(counts)) {
    if (count > (entry.most || 10000)) continue;
    await server.clear();
    const held = await hold(await start({ ttl: TTL, heartbeat: INTERVAL }), server, count);
    figures[key] = held.cpu;
    figures[`late${key}`] = held.late;
    figures[`redis${key}`] = held.redis;
    figures[`each${key}`] = held.each;
  }
  return figures;
}

async function hold(worker, server, count) {
  await worker.call('acquire', count);
  const keys = await server.client.keys('*');
  // By then all renew at their interval.
  await sleep(1.5 * INTERVAL);
  let late;
  const { value, commands, cpu } = await server.watch(async () => {
    const idle = worker.call('idle', SECONDS);
    late = await oldest(server, keys);
    return idle;
  });
  await worker.kill();
  const renewals = (commands.pexpire || 0) + (commands.expire || 0) + (commands.set || 0);
  const share = (microseconds) => (microseconds / SECONDS / 1e6) * 100;
  return { cpu: share(value), redis: share(cpu), each: value / renewals, late: Math.max(0, late - INTERVAL) };
}

/** The age of the oldest renewal among many locks, in ms: samples, spread over time. */
async function oldest(server, keys) {
  let most = 0;
  for (let look = 0; look < LOOKS; look += 1) {
    await sleep((SECONDS * 1000) / (LOOKS + 2));
    const pipeline = server.client.pipeline();
    for (let index = 0; index < SAMPLE; index += 1) {
      pipeline.pttl(keys[Math.floor(Math.random() * keys.length)]);
    }
    for (const [, left] of await pipeline.exec()) {
      if (left >= 0) most = Math.max(most, TTL - left);
    }
  }
  return most;
}

const worker = {
  async acquire(context, count) {
    const session = await context.session();
    context.kept.locks = [];
    while (context.kept.locks.length < count) {
      const some = Array.from({ length: 500 }, (_, index) =>
        session.make(`beat-${context.kept.locks.length + index}`),
      );
      await Promise.all(some.map((lock) => lock.acquire()));
      context.kept.locks.push(...some);
    }
  },

  async idle({ measure }, seconds) {
    const { cpu } = await measure(() => sleep(seconds * 1000));
    return cpu;
  },
};

const counts = { thousand: 1000, tenThousand: 10000, hundredThousand: 100000 };

module.exports = {
  title: 'locks held by one process, each renewed each second',
  rounds: 1,
  entries: [{ id: 'ours', most: 100000 }, 'original', 'redlock', 'redis-semaphore', 'redis-kit'],
  measures: [
    { key: 'tenThousand', label: '10,000', unit: '%', best: 'low' },
    { key: 'latetenThousand', label: 'at most', unit: 'ms late', best: 'low' },
    { key: 'eachtenThousand', label: 'µs', unit: 'each', best: 'low' },
    { key: 'redistenThousand', label: "redis's", unit: '%', best: 'low' },
    { key: 'thousand', label: '1,000', unit: '%', best: 'low' },
    { key: 'hundredThousand', label: '100,000', unit: '%', best: 'low' },
    { key: 'latehundredThousand', label: 'at most', unit: 'ms late', best: 'low' },
    { key: 'peak', label: 'peak', unit: 'MB', best: 'low', hidden: true },
  ],
  aims: [
    { text: '10,000: % of a core (< 3)', value: ({ figure }) => figure('ours', 'tenThousand'), atMost: 3 },
    {
      text: '100,000: % of a core (< 12)',
      value: ({ figure }) => figure('ours', 'hundredThousand'),
      atMost: 12,
    },
    {
      text: '10,000: ms late (≤ 100)',
      value: ({ figure }) => figure('ours', 'latetenThousand'),
      atMost: 100,
    },
    {
      text: '100,000: ms late (≤ 100)',
      value: ({ figure }) => figure('ours', 'latehundredThousand'),
      atMost: 100,
    },
  ],
  round,
  worker,
};
