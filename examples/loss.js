// A job that stops when its lock is lost. Try it: `redis-cli del reservation-nightly-report` while it runs.
'use strict';

const { setTimeout: sleep } = require('node:timers/promises');
const ReserveResource = require('redis-reservation');

const { REDIS_HOST, REDIS_PORT } = process.env;
const reservation = new ReserveResource('worker-name', REDIS_HOST, REDIS_PORT, 200, 2, false);

// Told once. With no listener the loss would be thrown, and end a process that does not expect it.
reservation.on('lost', (err) => console.log(err.message));

/** Whether the job was done to its end. */
async function do_job(signal) {
  for (let step = 1; step <= 100; step += 1) {
    // Asked right before each thing that must not be done twice: true only while the lease is certain.
    if (!reservation.held) return false;
    console.log(`step ${step}`);
    // A loss cuts it short, however long it were; fetch, streams and child processes take signals too.
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
    await reservation.release(); // after a loss that was told there is nothing to free: 0, and no error
  }
}

main().catch((err) => {
  console.error(err);
  process.exitCode = 1;
});
