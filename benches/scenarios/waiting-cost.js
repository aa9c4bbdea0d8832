// Scenario: the cost of waiting: commands a second and CPU time, for one waiter on a resource whose holder renews every ten
// minutes, for 1,000 on the same resource, and for many on as many resources.
'use strict';

const { setTimeout: sleep } = require('node:timers/promises');

const MANY = 100000;

async function round({ entry, start, server }) {
  const seconds = entry.seconds || 2;
  const holder = await start({ ttl: 1800000, heartbeat: 600000 });
  await holder.call('hold', 'waiting');
  const one = await watch(await start(), server, seconds, (worker) => worker.call('wait', 'waiting', 1));
  const crowd = await watch(await start(), server, seconds, (worker) => worker.call('wait', 'waiting', 1000));
  if (!entry.many) return { one: one.commands, crowd: crowd.commands, cpu: crowd.cpu };
  await occupy(server);
  const wait = (worker) => worker.call('waitForEach', 'many-', MANY);
  const many = await watch(await start(), server, seconds, wait, 6);
  return {
    one: one.commands,
    crowd: crowd.commands,
    cpu: crowd.cpu,
    many: many.commands,
    manyCpu: many.cpu,
    detail: { one, crowd, many },
  };
}

async function watch(worker, server, seconds, begin, settle = 1) {
  await begin(worker);
  await sleep(settle * 1000);
  const { value, total, commands } = await server.watch(() => worker.call('idle', seconds));
  await worker.kill();
  return { commands: total / seconds, cpu: (value / seconds / 1e6) * 100, byName: commands };
}

/** Another client holds them, for longer than the scenario takes. */
async function occupy(server) {
  const script = `for i = 0, ARGV[1] - 1 do redis.call('SET', 'reservation-many-' .. i, 'else', 'PX', 1800000) end`;
  await server.client.eval(script, 0, MANY);
}

const worker = {
  async hold(context, resource) {
    context.kept.lock = (await context.session()).make(resource);
    if (!(await context.kept.lock.acquire())) throw new Error('a free resource could not be locked');
  },

  async wait(context, resource, count) {
    const session = await context.session();
    for (let index = 0; index < count; index += 1) session.make(resource).wait();
  },

  async waitForEach(context, prefix, count) {
    const session = await context.session();
    for (let index = 0; index < count; index += 1) session.make(prefix + index).wait();
  },

  /** Gives the CPU time in µs. */
  async idle({ measure }, seconds) {
    const { cpu } = await measure(() => sleep(seconds * 1000));
    return cpu;
  },
};

module.exports = {
  title: 'the cost of waiting',
  rounds: 1,
  entries: [
    { id: 'ours', seconds: 6, many: true },
    'original',
    'redlock',
    'redis-semaphore',
    'simple-redis-mutex',
    'redlock-universal',
    'redis-kit',
  ],
  measures: [
    { key: 'one', label: 'one, com-', unit: 'mands/s', best: 'low' },
    { key: 'crowd', label: '1,000, one', unit: 'key', best: 'low' },
    { key: 'cpu', label: 'CPU,', unit: '%', best: 'low' },
    { key: 'many', label: '100,000', unit: 'keys', best: 'low' },
    { key: 'manyCpu', label: 'CPU,', unit: '%', best: 'low' },
  ],
  aims: [
    {
      text: 'one waiter, commands a second (≤ 1.2)',
      value: ({ figure }) => figure('ours', 'one'),
      atMost: 1.2,
    },
    {
      text: '1,000 waiters of one process, commands a second (≤ 1.2)',
      value: ({ figure }) => figure('ours', 'crowd'),
      atMost: 1.2,
    },
    {
      text: '100,000 waiters on as many keys, commands a second (≤ 1,000)',
      value: ({ figure }) => figure('ours', 'many'),
      atMost: 1000,
    },
  ],
  round,
  worker,
};
