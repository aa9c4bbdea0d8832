// A job that stops when its lock is lost. Try it: `redis-cli del reservation-nightly-report` while it runs.
'use strict';

const { setTimeout: sleep } = require('node:timers/promises');
const ReserveResource = require('redis-reservation');

const { REDIS_HOST, REDIS_PORT } = process.env;
const reservation = new ReserveResource('worker-name', REDIS_HOST, REDIS_PORT, 200, 2, false);

// Called once. Without a listener the loss would be an uncaught exception, which ends the process.
reservation.on('lost', (err) => console.log(err.message));

/** Whether the job was finished. */
async function do_job(signal) {
  for (let step = 1; step <= 100; step += 1) {
    // Check right before each step that must not be done twice: true only while the lease is certain.
    if (!reservation.held) return false;
    console.log(`step ${step}`);
    // A loss ends it early. fetch, streams and child processes take signals, too.
    await sleep(100, undefined, { signal }).catch(() => {});
  }
  return true;
}

async function main() {
  await reservation.wait_until_lock('nightly-report');
  try {
    const is_done = await do_job(reservation.signal);
    console.log(is_done ? 'done' : `stopped early, held: ${reservation.held}`);
  } finally {
    await reservation.release(); // after a reported loss there is nothing to free: 0, and no error
  }
}

main().catch((err) => {
  console.error(err);
  process.exitCode = 1;
});
