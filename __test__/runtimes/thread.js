// A worker thread of the matrix. Its task is its workerData.
'use strict';

const { parentPort, workerData } = require('worker_threads');
const { command, make, same } = require('./support');

const tasks = {
  async 'locks and releases'() {
    const reservation = make();
    same(await reservation.lock('thread'), true, 'lock');
    same(await reservation.release(), 1, 'release');
    parentPort.postMessage('released');
  },

  async holds() {
    await make({ ttl: 1 }).lock('thread');
    parentPort.postMessage('held');
    setInterval(() => {}, 1000);
  },

  async waits() {
    const waiting = make({ ttl: 2 }).wait_until_lock('thread');
    parentPort.postMessage('waiting');
    await waiting;
  },

  /** Reads, waits a little and writes. Right only if no two hold the lock at the same time. */
  async competes() {
    const reservation = make();
    for (let turn = 0; turn < 5; turn += 1) {
      await reservation.wait_until_lock('thread');
      const count = Number(await command('GET', 'counter'));
      await new Promise((resolve) => setTimeout(resolve, 1));
      await command('SET', 'counter', count + 1);
      await reservation.release();
    }
    parentPort.postMessage('competed');
  },
};

tasks[workerData]().catch((error) => parentPort.postMessage(String(error.message)));
