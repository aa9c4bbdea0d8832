// The checks of worker threads: locks in one, a thread that ends while it holds, and one that is terminated while it waits.
'use strict';

const path = require('path');
const { Worker } = require('worker_threads');
const { command, make, same, until } = require('./support');

/** Starts thread.js, and resolves with its worker once it has said `word`. `ended` has its exit code. */
function start(task, word) {
  const worker = new Worker(path.join(__dirname, 'thread.js'), { workerData: task });
  // Listens from the start, since the thread may end before the check asks.
  worker.ended = new Promise((resolve) => worker.once('exit', resolve));
  return new Promise((resolve, reject) => {
    worker.once('error', reject);
    worker.on('message', (message) => (message === word ? resolve(worker) : reject(new Error(message))));
  });
}

const checks = {
  async worker() {
    const worker = await start('locks and releases', 'released');
    same(await worker.ended, 0, 'the exit code of the thread');
    same(await command('GET', 'reservation-thread'), null, 'the key');
  },

  async 'worker that ends'() {
    const worker = await start('holds', 'held');
    await worker.terminate();
    await worker.ended;
    // Nothing renews the key any more, so it lapses. This thread goes on.
    await until(async () => (await command('GET', 'reservation-thread')) === null, 'the end of its key');
    const reservation = make();
    same(await reservation.lock('thread'), true, 'a lock of the main thread');
    await reservation.release();
  },

  async 'worker that waits'() {
    const reservation = make();
    await reservation.lock('thread');
    const worker = await start('waits', 'waiting');
    await worker.terminate();
    await worker.ended;
    await reservation.release();
    const next = make();
    const began = Date.now();
    // Some runtimes report the end of a thread before it has ended. The lock may then have gone to that thread, and lapses.
    const at_once = await next.lock('thread');
    if (!at_once) await next.wait_until_lock('thread', { timeout: 5000 });
    await next.release();
    return at_once
      ? undefined
      : `acquired after ${Date.now() - began} ms, by the ttl: the thread had not ended yet`;
  },

  async 'many workers'() {
    const workers = await Promise.all(Array.from({ length: 8 }, () => start('competes', 'competed')));
    for (const code of await Promise.all(workers.map((worker) => worker.ended))) {
      same(code, 0, 'the exit code of a thread');
    }
    same(await command('GET', 'counter'), '40', 'the turns of eight threads');
  },
};

module.exports = checks;
