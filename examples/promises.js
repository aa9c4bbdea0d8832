// One job, one lock, with promises: no callback, and every method gives a promise.
'use strict';

const { setTimeout: sleep } = require('node:timers/promises');
const ReserveResource = require('redis-reservation');

const { REDIS_HOST, REDIS_PORT } = process.env;

async function do_job() {
  console.log('the job runs');
  await sleep(100);
}

async function main() {
  // Renewed every 10 s, and without renewal it lives for 30 s.
  const reservation = new ReserveResource('worker-name', REDIS_HOST, REDIS_PORT, 10 * 1000, 30);
  if (!(await reservation.lock('nightly-report'))) {
    console.log('somebody else runs it');
    return;
  }
  try {
    await do_job();
  } finally {
    // Also when the job failed: nobody has to wait for the ttl.
    await reservation.release();
  }
}

main().catch((err) => {
  console.error(err);
  process.exitCode = 1;
});
