// One process of a mixed fleet: this package, or 0.4.0 as npm delivers it, doing the same work. Started by fleet.test.js.
'use strict';

const { setTimeout: sleep } = require('node:timers/promises');
const Redis = require('ioredis');
const { now } = require('../torture/clock');

const { REDIS_HOST: host, REDIS_PORT: port, PACKAGE, WAY } = process.env;
const Reservation = require(PACKAGE === 'original' ? 'original' : '../..');

/** 0.4.0's sixth argument is for its log's lines, and it needs one. */
const log = PACKAGE === 'original' ? { fleet: 'mixed' } : false;
const reservation = new Reservation(PACKAGE, host, port, 300, 3, log);
const data = new Redis({ host, port });

/** How each is waited for. 0.4.0's own wait looks once a second, and calls back a second after it has the lock. */
const ways = {
  wait: () => call((done) => reservation.wait_until_lock('job', done)),
  async poll() {
    while (!(await call((done) => reservation.lock('job', done)))) await sleep(25);
  },
};

/** Both call back as (err, value). */
function call(start) {
  return new Promise((resolve, reject) => {
    start((error, value) => (error ? reject(error) : resolve(value)));
  });
}

/** Read, think, write: the sum is right only if nobody else does the same meanwhile. */
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
      // So that those who look once a second get a turn.
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

// This package has no listener here either: both tell a loss in the same way.
process.on('uncaughtException', (error) => process.send({ lost: error.message }));

process.send('up');
