// Waiters of all worker threads of a process share one queue. Those of a thread that ends leave it, and delay others at most
// by the ttl of what the thread held.
'use strict';

const assert = require('node:assert/strict');
const { test } = require('node:test');
const { runChild } = require('../support/faults');
const { startServer } = require('../support/server');
const { until } = require('../support/wait');

const perThread = 200;

/** Five threads with 200 waiters each, whose locks have a ttl of 1.5 s. Messages control the process. */
const code = `
  const { Worker } = require('node:worker_threads');
  const source = \`
    const { parentPort, workerData: thread } = require('node:worker_threads');
    const { REDIS_HOST: host, REDIS_PORT: port } = process.env;
    const ReserveResource = require('./index.js');
    const start = (number) => {
      const reservation = new ReserveResource('t' + thread, host, port, 400, 1.5, false);
      reservation.wait_until_lock('job', (error) => {
        // One clock for all threads, since their messages may arrive out of order.
        const at = Number(process.hrtime.bigint());
        parentPort.postMessage({ thread, number, at, error: error && error.message });
        reservation.release((failure, released) => {
          if (failure || released !== 1) parentPort.postMessage({ thread, number, error: 'released ' + released });
        });
      });
    };
    parentPort.on('message', (number) => {
      start(number);
      parentPort.postMessage({ joined: number });
    });
  \`;
  const holder = make(300000, 600);
  const threads = [0, 1, 2, 3, 4].map((number) => new Worker(source, { eval: true, workerData: number }));
  const served = [];
  const joined = [];
  const note = (message) => {
    if (message.joined !== undefined) joined.shift()();
    else served.push(message);
  };
  for (const thread of threads) thread.on('message', note);

  async function main() {
    await holder.lock('job');
    // The order of the queue: one waiter of each thread in turn.
    for (let number = 0; number < ${perThread}; number += 1) {
      for (const thread of threads) {
        thread.postMessage(number);
        await new Promise((resolve) => joined.push(resolve));
      }
    }
    process.send('waiting');
    process.on('message', async (message) => {
      if (message === 'terminate 1') await threads[1].terminate();
      if (message === 'release') await holder.release();
      if (message === 'terminate 3') {
        while (served.length < 100) await new Promise(setImmediate);
        await threads[3].terminate();
      }
      if (message === 'end') await Promise.all(threads.map((thread) => thread.terminate()));
      process.send({ done: message, served }, () => message === 'end' && process.disconnect());
    });
  }
  main();`;

test('1,000 waiters of 5 threads, two of which are terminated: the rest are served, in order', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  const child = runChild(t, server, code);
  const tell = async (what) => {
    child.send(what);
    const { served } = await child.message({ done: what }, { timeout: 20000 });
    return served;
  };
  await child.message((message) => message === 'waiting', { timeout: 30000 });
  assert.deepEqual(await tell('terminate 1'), [], 'one ends while all wait');
  const start = performance.now();
  const [, early] = await Promise.all([tell('release'), tell('terminate 3')]);
  assert.ok(
    early.length < 4 * perThread,
    `the second thread must end while others are served: ${early.length} were served`,
  );
  const of = (all, thread) => all.filter((one) => one.thread === thread);
  let served;
  await until(
    async () => {
      served = await tell('look');
      return [0, 2, 4].every((thread) => of(served, thread).length === perThread);
    },
    { timeout: 20000, what: 'all that the other threads wait for' },
  );
  // The locks of ended threads last for their ttl. Nothing else takes long.
  const passed = performance.now() - start;
  assert.ok(passed < 15000, `${passed} ms`);
  assert.deepEqual(
    served.filter(({ error }) => error),
    [],
  );
  assert.equal(of(served, 1).length, 0);
  const order = served
    .sort((one, other) => one.at - other.at)
    .map(({ thread, number }) => number * 5 + thread);
  assert.deepEqual(
    order,
    [...order].sort((one, other) => one - other),
    'whichever thread they came from',
  );
  await until(async () => (await client.dbsize()) === 0, { what: 'a free key' });
  await tell('end');
  assert.deepEqual(await child.exit(), { code: 0, signal: null }, child.stderr);
  assert.equal(child.stderr, '');
});
