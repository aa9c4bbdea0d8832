// One process of a mixed fleet: this package, or 0.4.0 as published, does the same work. fleet.test.js starts it.
'use strict';

const { setTimeout: sleep } = require('node:timers/promises');
const Redis = require('ioredis');
const { now } = require('../torture/clock');

const { REDIS_HOST: host, REDIS_PORT: port, PACKAGE, WAY } = process.env;
const Reservation = require(PACKAGE === 'original' ? 'original' : '../..');

/** 0.4.0 needs its sixth argument, metadata of its log lines. */
const log = PACKAGE === 'original' ? { fleet: 'mixed' } : false;
const reservation = new Reservation(PACKAGE, host, port, 300, 3, log);
const data = new Redis({ host, port });

/** How each waits. 0.4.0's own wait polls once a second, and calls back a second after it has the lock. */
const ways = {
  wait: () => call((done) => reservation.wait_until_lock('job', done)),
  async poll() {
    while (!(await call((done) => reservation.lock('job', done)))) await sleep(25);
  },
};

/** Both call back with (err, value). */
function call(start) {
  return new Promise((resolve, reject) => {
    start((error, value) => (error ? reject(error) : resolve(value)));
  });
}

/** Reads, sleeps, writes. The sum is right only if no other process does the same meanwhile. */
async function turn(random) {
  await ways[WAY]();
  const from = now();
  const count = Number(await data.get('counter'));
  await sleep(20 + random * 100);
  await data.set('counter', count + 1);
  const to = now();
  await call((done) => reservation.release(done));
  process.send({ from, to, package: PACKAGE });
}

const tasks = {
  async work() {
    while (!stopped) {
      await turn(Math.random());
      // Lets those that poll once a second get a turn.
      await sleep(300);
    }
    process.send('done');
  },
  async lock(resource) {
    const got = await call((done) => reservation.lock(resource, done));
    process.send({ got, val: reservation._reserve_val });
  },
};

let stopped = false;

process.on('message', ({ task, resource }) => {
  if (task === 'stop') stopped = true;
  else tasks[task](resource);
});

// This package has no listener either, so both report a loss in the same way.
process.on('uncaughtException', (error) => process.send({ lost: error.message }));

process.send('up');
