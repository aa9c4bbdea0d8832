// One instance, several resources: each has its own key, lease and renewal.
'use strict';

const ReserveResource = require('redis-reservation');

const { REDIS_HOST, REDIS_PORT } = process.env;
const reservation = new ReserveResource('mover', REDIS_HOST, REDIS_PORT, undefined, 2, false);

/** Acquires all of them, or none. Always in the same order, so that two processes do not wait for each other. */
async function lock_all(resources) {
  for (const resource of [...resources].sort()) {
    if (await reservation.lock(resource)) continue;
    await reservation.release(); // those acquired so far
    return false;
  }
  return true;
}

async function main() {
  if (!(await lock_all(['account-7', 'account-3']))) {
    console.log('one of the accounts is in use');
    return;
  }
  try {
    console.log('both:', reservation.is_held('account-3'), reservation.is_held('account-7'));
    await reservation.release('account-3'); // only one
    console.log('one:', reservation.is_held('account-3'), reservation.is_held('account-7'));
  } finally {
    console.log('freed', await reservation.release()); // the rest
  }
}

main().catch((err) => {
  console.error(err);
  process.exitCode = 1;
});
