// Scenario: lock and release, one after another, by one process on one connection.
'use strict';

const { onOneCore } = require('../lib/pin');

const PAIRS = 1500;
const WARM = 1000;

async function round({ start, server }) {
  const worker = await start();
  await worker.call('pairs', WARM);
  const free = await server.watch(() => worker.call('pairs', PAIRS));
  const single = await onOneCore([server.pid, worker.pid], async () => {
    await worker.call('pairs', 200);
    return server.watch(() => worker.call('pairs', PAIRS));
  });
  // On one core, the figures show the work without the cost of waking another core.
  const { value, cpu } = single || free;
  return {
    pair: free.value.median,
    tail: free.value.tail,
    single: single && single.value.median,
    commands: free.total / PAIRS,
    cpu: value.cpu / PAIRS,
    js: value.js === null ? undefined : value.js / PAIRS,
    redis: cpu / PAIRS,
    cpuFree: free.value.cpu / PAIRS,
    detail: { commands: free.commands, threads: value.threads },
  };
}

const worker = {
  async pairs(context, count) {
    const { median, quantile } = require('../lib/statistics');
    const { measure, threads } = context;
    const lock = (await context.session()).make('sequence');
    const times = new Float64Array(count);
    const before = threads();
    const { cpu, js } = await measure(async () => {
      for (let index = 0; index < count; index += 1) {
        const start = performance.now();
        if (!(await lock.acquire())) throw new Error('a free resource could not be locked');
        await lock.release();
        times[index] = (performance.now() - start) * 1000;
      }
    });
    const perThread = Object.entries(threads()).map(([name, used]) => [
      name,
      (used - (before[name] || 0)) / count,
    ]);
    return {
      median: median(times),
      tail: quantile(times, 0.99),
      cpu,
      js,
      threads: Object.fromEntries(perThread),
    };
  },
};

module.exports = {
  title: 'lock + release, one after the other',
  rounds: 7,
  entries: [
    'ours',
    'original',
    'ioredis',
    'node-redis',
    'redlock',
    'redis-semaphore',
    'simple-redis-mutex',
    'warlock',
    'redlock-universal',
    'redis-kit',
  ],
  measures: [
    { key: 'pair', label: 'pair', unit: 'µs', best: 'low' },
    { key: 'single', label: 'on one', unit: 'core', best: 'low' },
    { key: 'commands', label: 'com-', unit: 'mands', best: 'low' },
    { key: 'cpu', label: 'CPU', unit: 'µs', best: 'low' },
    { key: 'js', label: 'of it', unit: 'JS', best: 'low' },
    { key: 'redis', label: "redis's", unit: 'CPU', best: 'low' },
    { key: 'peak', label: 'peak', unit: 'MB', best: 'low' },
    { key: 'tail', label: '99 %', unit: 'µs', best: 'low', hidden: true },
    { key: 'cpuFree', label: 'CPU', unit: 'µs, on all cores', best: 'low', hidden: true },
  ],
  aims: [
    { text: 'pair, × bare ioredis (≤ 1)', value: ({ times }) => times('ours', 'ioredis', 'pair'), atMost: 1 },
    {
      text: 'the same on one core (≤ 1)',
      value: ({ times }) => times('ours', 'ioredis', 'single'),
      atMost: 1,
    },
    {
      text: 'CPU a pair, × bare ioredis (≤ 1)',
      value: ({ times }) => times('ours', 'ioredis', 'cpu'),
      atMost: 1,
    },
    {
      text: "JS thread's CPU, × ioredis (< 1)",
      value: ({ times }) => times('ours', 'ioredis', 'js'),
      atMost: 1,
    },
  ],
  round,
  worker,
};
