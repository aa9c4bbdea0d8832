// Scenario: whether a lock and a release take longer when the process holds, or waits for, many others.
'use strict';

const { onOneCore } = require('../lib/pin');

const PAIRS = 300;
const counts = [1, 10, 100, 1000, 10000, 100000];

async function round({ entry, start, server }) {
  const worker = await start({ ttl: 1800000, heartbeat: 600000 });
  await worker.call('pairs', 500);
  if (entry.waiting) await occupy(server);
  const figures = {};
  let already = 0;
  for (const count of counts.filter((one) => one <= (entry.most || 100000))) {
    await worker.call(entry.waiting ? 'wait' : 'hold', already, count);
    already = count;
    const pairs = () => worker.call('pairs', PAIRS);
    // Without pinning, the same work sometimes takes twice as long.
    figures[`at${count}`] = (await onOneCore([server.pid, worker.pid], pairs)) ?? (await pairs());
  }
  return figures;
}

/** Another client holds the resources of the waiters, for longer than the scenario takes. */
async function occupy(server) {
  const script = `for i = 0, ARGV[1] - 1 do redis.call('SET', 'reservation-more-' .. i, 'else', 'PX', 1800000) end`;
  await server.client.eval(script, 0, counts.at(-1));
}

const worker = {
  async hold(context, from, to) {
    const session = await context.session();
    context.kept.locks ??= [];
    for (let first = from; first < to; first += 500) {
      const size = Math.min(500, to - first);
      const some = Array.from({ length: size }, (_, index) => session.make(`more-${first + index}`));
      await Promise.all(some.map((lock) => lock.acquire()));
      context.kept.locks.push(...some);
    }
  },

  async wait(context, from, to) {
    const session = await context.session();
    for (let index = from; index < to; index += 1) session.make(`more-${index}`).wait();
    // Queued behind the first looks of the waiters: then they are idle.
    await this.pairs(context, 20);
  },

  async pairs(context, count) {
    const { median } = require('../lib/statistics');
    const lock = (await context.session()).make('pairs');
    const times = [];
    for (let index = 0; index < count; index += 1) {
      const start = performance.now();
      if (!(await lock.acquire())) throw new Error('a free resource could not be locked');
      await lock.release();
      times.push((performance.now() - start) * 1000);
    }
    return median(times);
  },
};

module.exports = {
  title: 'lock + release beside so many held, or waited for, µs',
  rounds: 3,
  chart: 'lines',
  entries: [
    { id: 'ours', label: 'redis-reservation, held' },
    { id: 'ours', key: 'waiting', label: 'redis-reservation, waiting', waiting: true },
    { id: 'redis-semaphore', label: 'redis-semaphore, held', most: 10000 },
  ],
  measures: counts.map((count) => ({
    key: `at${count}`,
    label: count.toLocaleString('en'),
    unit: 'µs',
    best: 'low',
    spread: false,
  })),
  aims: [
    {
      text: 'at 100,000 held, × at 1 (level: ≤ 1.5)',
      value: ({ figure }) => figure('ours', 'at100000') / figure('ours', 'at1'),
      atMost: 1.5,
    },
    {
      text: 'at 100,000 waiting, × at 1 (level: ≤ 1.5)',
      value: ({ figure }) => figure('waiting', 'at100000') / figure('waiting', 'at1'),
      atMost: 1.5,
    },
  ],
  round,
  worker,
};
