// Scenario: 200 waiters for one resource, each of which holds it for 1 ms: in one process, and in four with 50 each.
'use strict';

const { setTimeout: sleep } = require('node:timers/promises');

const ALL = 200;
const HOLD = 1;
const LIMIT = 5000;

async function round({ start, server }) {
  const one = await stampede(start, server, 1);
  const four = await stampede(start, server, 4);
  const time = ({ served, ms }) => (served === ALL ? ms : undefined);
  return {
    one: time(one),
    four: time(four),
    commands: one.commands / one.served,
    commandsFour: four.commands / four.served,
    served: Math.min(one.served, four.served),
    disorder: one.disorder,
    cpu: one.cpu / one.served,
    detail: { one, four },
  };
}

async function stampede(start, server, processes) {
  const holder = await start();
  const herd = [];
  for (let index = 0; index < processes; index += 1) herd.push(await start());
  await holder.call('hold');
  await Promise.all(herd.map((worker) => worker.call('gather', ALL / processes)));
  await sleep(500);
  const began = performance.now();
  let ended;
  const { value, total } = await server.watch(async () => {
    await holder.call('free');
    const answers = await Promise.all(herd.map((worker) => worker.call('finish', LIMIT)));
    ended = performance.now();
    return answers;
  });
  const served = value.reduce((sum, answer) => sum + answer.served, 0);
  const disorder = value.reduce((sum, answer) => sum + answer.disorder, 0);
  const cpu = value.reduce((sum, answer) => sum + answer.cpu, 0);
  return { ms: ended - began, served, commands: total, disorder, cpu };
}

const worker = {
  async hold(context) {
    const { kept } = context;
    kept.lock = (await context.session()).make('herd');
    if (!(await kept.lock.acquire())) throw new Error('a free resource could not be locked');
  },

  async free({ kept }) {
    await kept.lock.release();
  },

  /** All start to wait, in order. */
  async gather(context, count) {
    const { kept } = context;
    const session = await context.session();
    kept.order = [];
    kept.all = Array.from({ length: count }, async (_, index) => {
      const lock = session.make('herd');
      await lock.wait();
      kept.order.push(index);
      await sleep(HOLD);
      await lock.release();
    });
    kept.cpu = process.cpuUsage();
  },

  /** Waits for the last one. Gives how many were served, and how many of them before an earlier waiter. */
  async finish({ kept }, limit) {
    await Promise.race([Promise.all(kept.all), sleep(limit)]);
    const { user, system } = process.cpuUsage(kept.cpu);
    let disorder = 0;
    let latest = -1;
    for (const index of kept.order) {
      if (index < latest) disorder += 1;
      latest = Math.max(latest, index);
    }
    return { served: kept.order.length, disorder, cpu: user + system };
  },
};

module.exports = {
  title: `${ALL} wait for one resource, each holds it for ${HOLD} ms`,
  rounds: 2,
  entries: [
    'ours',
    'redlock',
    'redis-semaphore',
    {
      id: 'redis-semaphore',
      key: 'redis-semaphore-1',
      label: 'redis-semaphore, each ms',
      settings: { poll: 1 },
    },
    'simple-redis-mutex',
    { id: 'warlock', label: 'warlock, each 10 ms' },
    'redlock-universal',
  ],
  measures: [
    { key: 'one', label: '1 × 200', unit: 'ms', best: 'low' },
    { key: 'four', label: '4 × 50', unit: 'ms', best: 'low' },
    { key: 'commands', label: 'com-', unit: 'mands', best: 'low' },
    { key: 'commandsFour', label: 'of 4', unit: '× 50', best: 'low' },
    { key: 'disorder', label: 'out of', unit: 'turn', best: 'low' },
    { key: 'served', label: 'served', unit: 'in 5 s', best: 'high' },
    { key: 'cpu', label: 'CPU', unit: 'µs each', best: 'low' },
    { key: 'peak', label: 'peak', unit: 'MB', best: 'low', hidden: true },
  ],
  aims: [
    { text: 'one process, ms (< 500)', value: ({ figure }) => figure('ours', 'one'), atMost: 500 },
    { text: '4 × 50, ms (< 500)', value: ({ figure }) => figure('ours', 'four'), atMost: 500 },
    { text: 'commands a hand-off (< 8)', value: ({ figure }) => figure('ours', 'commands'), atMost: 8 },
    { text: 'the same, 4 × 50 (< 8)', value: ({ figure }) => figure('ours', 'commandsFour'), atMost: 8 },
    {
      text: 'served out of turn in one process (0)',
      value: ({ figure }) => figure('ours', 'disorder'),
      atMost: 0,
    },
  ],
  round,
  worker,
};
