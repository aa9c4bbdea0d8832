// A wait that ends: after a timeout, or by a signal.
'use strict';

const ReserveResource = require('redis-reservation');

const { REDIS_HOST, REDIS_PORT } = process.env;
const first = new ReserveResource('first', REDIS_HOST, REDIS_PORT, undefined, 2, false);
const second = new ReserveResource('second', REDIS_HOST, REDIS_PORT, undefined, 2, false);

async function main() {
  await first.lock('nightly-report');

  try {
    await second.wait_until_lock('nightly-report', { timeout: 200 });
  } catch (err) {
    console.log(err.code); // ERR_RESERVATION_TIMEOUT
  }

  const stop = new AbortController();
  setTimeout(() => stop.abort(new Error('the worker is shutting down')), 200);
  try {
    await second.wait_until_lock('nightly-report', { signal: stop.signal });
  } catch (err) {
    console.log(err.message); // the reason of the signal
  }

  const waiting = second.wait_until_lock('nightly-report');
  await first.release(); // this wakes the second
  console.log(await waiting); // the key's name in redis
  await second.release();
}

main().catch((err) => {
  console.error(err);
  process.exitCode = 1;
});
