// Scenario: 1, 2 and 4 processes on one redis, each locking and releasing resources of its own, 50 at a time.
'use strict';

const MS = 1000;
const AT_ONCE = 50;
const counts = [1, 2, 4];

async function round({ start }) {
  const workers = [];
  const figures = {};
  for (const count of counts) {
    while (workers.length < count) workers.push(await start());
    await Promise.all(workers.map((worker, index) => worker.call('turn', index, 200)));
    const done = await Promise.all(workers.map((worker, index) => worker.call('turn', index, MS)));
    figures[`by${count}`] = done.reduce((sum, operations) => sum + operations, 0) / MS;
  }
  return figures;
}

const worker = {
  /** Gives the number of operations in this time. */
  async turn(context, index, ms) {
    const session = await context.session();
    const until = performance.now() + ms;
    const lanes = Array.from({ length: AT_ONCE }, async (_, lane) => {
      const lock = session.make(`lane-${index}-${lane}`);
      let operations = 0;
      while (performance.now() < until) {
        if (!(await lock.acquire())) throw new Error('a free resource could not be locked');
        await lock.release();
        operations += 2;
      }
      return operations;
    });
    return (await Promise.all(lanes)).reduce((sum, operations) => sum + operations, 0);
  },
};

module.exports = {
  title: `several processes on one redis, ${AT_ONCE} at a time each, operations a ms`,
  rounds: 2,
  chart: 'lines',
  entries: ['ours', 'ioredis', 'node-redis', 'redis-semaphore', 'redlock'],
  measures: counts.map((count) => ({
    key: `by${count}`,
    label: `${count} ${count === 1 ? 'process' : 'processes'}`,
    unit: 'ops/ms',
    best: 'high',
  })),
  round,
  worker,
};
