// Scenario: a lease of 1 s, and an event loop that is blocked for 5 s: how long other clients see the key, and when the
// callback of a pending call runs.
'use strict';

const { setTimeout: sleep } = require('node:timers/promises');

const BLOCK = 5000;
const TTL = 1000;

async function round({ start, server }) {
  const worker = await start({ ttl: TTL, heartbeat: TTL / 3 });
  await worker.call('acquire');
  const [key] = await server.client.keys('*blocked*');
  const began = performance.now();
  // A loss of 0.4.0 is an uncaught exception.
  const blocked = worker
    .call('block', BLOCK)
    .catch(() => ({ note: 'the process ended with an uncaught exception' }));
  let lived;
  while (performance.now() - began < BLOCK && lived === undefined) {
    await sleep(10);
    if ((await server.client.exists(key)) === 0) lived = performance.now() - began;
  }
  const { late, note } = await blocked;
  return { lived: lived === undefined ? BLOCK : lived, late, note };
}

const worker = {
  async acquire(context) {
    const session = await context.session();
    context.kept.lock = session.make('blocked');
    if (!(await context.kept.lock.acquire())) throw new Error('a free resource could not be locked');
    context.kept.other = session.make('other');
  },

  /** Sleeps, so that other processes have the cores. Gives the time until the next callback afterwards, in ms. */
  async block({ kept }, ms) {
    const under = kept.other.acquire();
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
    const ended = performance.now();
    await under;
    return { late: performance.now() - ended };
  },
};

module.exports = {
  title: `the loop is blocked for ${BLOCK / 1000} s, the ttl is ${TTL / 1000} s`,
  rounds: 1,
  entries: ['ours', 'original', 'redlock', 'redis-semaphore', 'redis-kit'],
  measures: [
    { key: 'lived', label: 'key lived', unit: 'ms', best: 'high' },
    { key: 'late', label: 'callback after', unit: 'the block, ms', best: 'low' },
  ],
  aims: [
    {
      text: 'the key is there for, ms (all 5,000)',
      value: ({ figure }) => figure('ours', 'lived'),
      atLeast: BLOCK,
    },
    {
      text: 'first callback after the block, ms (≤ 5)',
      value: ({ figure }) => figure('ours', 'late'),
      atMost: 5,
    },
  ],
  round,
  worker,
};
