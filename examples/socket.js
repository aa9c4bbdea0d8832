// A redis on this machine, by its unix socket: no port, no network.
'use strict';

const ReserveResource = require('redis-reservation');

// A path such as /run/redis/redis.sock. As a URL it is unix:///run/redis/redis.sock.
const { REDIS_SOCKET } = process.env;

const reservation = new ReserveResource('worker-name', REDIS_SOCKET, null, 10 * 1000, 30, false);

async function main() {
  if (!(await reservation.lock('nightly-report'))) {
    console.log('somebody else runs it');
    return;
  }
  console.log('the job runs');
  await reservation.release();
}

main().catch((err) => {
  console.error(err);
  process.exitCode = 1;
});
