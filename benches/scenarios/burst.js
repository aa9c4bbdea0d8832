// Scenario: 10,000 locks at once, then their 10,000 releases.
'use strict';

const COUNT = 10000;

async function round({ start, server }) {
  const worker = await start();
  await worker.call('burst', 'warm');
  const { value, total, cpu } = await server.watch(() => worker.call('burst', 'counted'));
  const operations = 2 * COUNT;
  return {
    rate: operations / value.ms,
    delay: value.delay,
    cpu: value.cpu / operations,
    js: value.js === null ? undefined : value.js / operations,
    redis: cpu / operations,
    commands: total / operations,
    detail: { lock: value.lock, release: value.release },
  };
}

const worker = {
  async burst(context, name) {
    const session = await context.session();
    const locks = Array.from({ length: COUNT }, (_, index) => session.make(`${name}-${index}`));
    let lock;
    let release;
    const measured = await context.measureWithDelay(async () => {
      const began = performance.now();
      const had = await Promise.all(locks.map((one) => one.acquire()));
      lock = performance.now() - began;
      if (!had.every(Boolean)) throw new Error('a free resource could not be locked');
      await Promise.all(locks.map((one) => one.release()));
      release = performance.now() - began - lock;
    });
    const { ms, cpu, js, delay } = measured;
    return { ms, cpu, js, delay, lock, release };
  },
};

module.exports = {
  title: `${COUNT.toLocaleString('en')} locks at once, then their releases`,
  rounds: 5,
  entries: [
    'ours',
    { id: 'ours', key: 'shared', label: 'one instance for all', settings: { shared: true } },
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
    { key: 'rate', label: 'rate', unit: 'ops/ms', best: 'high' },
    { key: 'delay', label: 'loop', unit: 'held, ms', best: 'low' },
    { key: 'commands', label: 'com-', unit: 'mands', best: 'low' },
    { key: 'cpu', label: 'CPU', unit: 'µs', best: 'low' },
    { key: 'js', label: 'of it', unit: 'JS', best: 'low' },
    { key: 'redis', label: "redis's", unit: 'CPU', best: 'low' },
    { key: 'peak', label: 'peak', unit: 'MB', best: 'low' },
  ],
  aims: [
    { text: 'rate, operations a ms (> 150)', value: ({ figure }) => figure('ours', 'rate'), atLeast: 150 },
    {
      text: 'rate, × bare node-redis (≥ 1.5)',
      value: ({ times }) => times('ours', 'node-redis', 'rate'),
      atLeast: 1.5,
    },
    { text: 'loop held, ms (< 35)', value: ({ figure }) => figure('ours', 'delay'), atMost: 35 },
    {
      text: 'loop held, × bare node-redis (≤ 1)',
      value: ({ times }) => times('ours', 'node-redis', 'delay'),
      atMost: 1,
    },
    { text: 'CPU an operation, µs (< 4)', value: ({ figure }) => figure('ours', 'cpu'), atMost: 4 },
  ],
  round,
  worker,
};
