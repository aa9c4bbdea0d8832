// One job, one lock, with promises: without a callback, every method returns a promise.
'use strict';

const { setTimeout: sleep } = require('node:timers/promises');
const ReserveResource = require('redis-reservation');

const { REDIS_HOST, REDIS_PORT } = process.env;

async function do_job() {
  console.log('the job runs');
  await sleep(100);
}

async function main() {
  // Renewed every 10 s. Without renewal it lives for 30 s.
  const reservation = new ReserveResource('worker-name', REDIS_HOST, REDIS_PORT, 10 * 1000, 30);
  if (!(await reservation.lock('nightly-report'))) {
    console.log('somebody else runs it');
    return;
  }
  try {
    await do_job();
  } finally {
    // Also after a failure, so that others need not wait for the ttl.
    await reservation.release();
  }
}

main().catch((err) => {
  console.error(err);
  process.exitCode = 1;
});
