// A job that blocks its event loop for twice the ttl, and keeps its lock: renewal runs on a separate thread.
'use strict';

const ReserveResource = require('redis-reservation');

const { REDIS_HOST, REDIS_PORT } = process.env;
const seconds = 2;

// max_hold: without it, a job that hangs would keep its lock for ever. This job may take 10 s.
const options = { max_hold: 10 * 1000 };
const reservation = new ReserveResource('cruncher', REDIS_HOST, REDIS_PORT, 500, seconds, false, '', options);

function crunch(milliseconds) {
  const end = Date.now() + milliseconds;
  let sum = 0;
  while (Date.now() < end) sum += Math.sqrt(sum + 1);
  return sum;
}

async function main() {
  await reservation.wait_until_lock('nightly-report');
  try {
    console.log('blocked');
    crunch(2 * seconds * 1000);
    // The event loop has not turned since, but `held` is true or false as of right now.
    console.log('held:', reservation.held);
  } finally {
    await reservation.release();
  }
}

main().catch((err) => {
  console.error(err);
  process.exitCode = 1;
});
