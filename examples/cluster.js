// A cluster: each resource is locked on the node that serves its key, and waiting works on every node.
'use strict';

const ReserveResource = require('redis-reservation');

// REDIS_CLUSTER is a list such as redis-1:6379,redis-2:6379. One node that answers is enough: it names the others.
const cluster = process.env.REDIS_CLUSTER.split(',').map((address) => {
  const [host, port] = address.split(':');
  return { host, port };
});

const reservation_of = (by) => new ReserveResource(by, null, null, 1000, 30, false, '', { cluster });
const resources = ['account-1', 'account-2', 'account-3', 'account-4'];

async function main() {
  const first = reservation_of('first');
  const second = reservation_of('second');
  const locked = await Promise.all(resources.map((resource) => first.lock(resource)));
  console.log('first:', ...locked);

  const waits = resources.map((resource) => second.wait_until_lock(resource));
  console.log('first freed', await first.release()); // all of them, on all nodes; this wakes the second
  await Promise.all(waits);
  console.log('second:', second.held);
  console.log('second freed', await second.release());
}

main().catch((err) => {
  console.error(err);
  process.exitCode = 1;
});
