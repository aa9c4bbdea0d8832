// A job that blocks its event loop for twice the ttl, and keeps its lock: renewal runs on a thread of its own.
'use strict';

const ReserveResource = require('redis-reservation');

const { REDIS_HOST, REDIS_PORT } = process.env;
const seconds = 2;

// max_hold: renewal would keep the lock of a job that hangs for ever. This one may take 10 s.
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
    // Not a turn of the event loop since, and yet this is the truth of this very instant.
    console.log('held:', reservation.held);
  } finally {
    await reservation.release();
  }
}

main().catch((err) => {
  console.error(err);
  process.exitCode = 1;
});
