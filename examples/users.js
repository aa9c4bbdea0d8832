// A redis user (ACL) with only the permissions that locks need.
// docs/connecting.md has the rules, under "Users and permissions".
'use strict';

const ReserveResource = require('redis-reservation');

const { REDIS_HOST, REDIS_PORT, REDIS_USER, REDIS_PASSWORD } = process.env;

const reservation = new ReserveResource(
  'worker-name',
  REDIS_HOST,
  REDIS_PORT,
  10 * 1000,
  30,
  false,
  REDIS_PASSWORD,
  { username: REDIS_USER },
);

async function main() {
  await reservation.wait_until_lock('nightly-report', { timeout: 5000 });
  console.log('the job runs');
  await reservation.release();
}

main().catch((err) => {
  // A wrong password, or a missing permission: the message then ends with the rule to add.
  if (err.code === 'ERR_REDIS_AUTH') console.log(err.message);
  else console.error(err);
  process.exitCode = 1;
});
