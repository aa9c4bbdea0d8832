// The master that sentinels name. A held lock survives a failover: it is renewed on the new master.
'use strict';

const { setTimeout: sleep } = require('node:timers/promises');
const ReserveResource = require('redis-reservation');

// REDIS_SENTINELS is a list such as sentinel-1:26379,sentinel-2:26379,sentinel-3:26379.
const { REDIS_SENTINELS, REDIS_MASTER = 'mymaster', STEPS = 5 } = process.env;
const sentinels = REDIS_SENTINELS.split(',').map((address) => {
  const [host, port] = address.split(':');
  return { host, port };
});

const reservation = new ReserveResource('worker-name', null, null, 1000, 30, false, '', {
  sentinels,
  name: REDIS_MASTER,
  min_replicas: 1, // a lock succeeds once a replica has it, so that a failover does not forget it
});

reservation.on('lost', (err) => console.log(err.message));

async function main() {
  await reservation.wait_until_lock('nightly-report');
  for (let step = 1; step <= STEPS; step += 1) {
    if (!reservation.held) break;
    console.log(`step ${step}`);
    await sleep(200);
  }
  console.log(`done, held: ${reservation.held}`);
  console.log('freed', await reservation.release());
}

main().catch((err) => {
  console.error(err);
  process.exitCode = 1;
});
