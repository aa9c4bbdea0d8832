// A fencing check: the guarded store itself refuses a writer that has lost its lock, also one that was paused between its last
// look at the lock and its write. Here the store is a hash in redis; docs/guarantees.md has SQL.
'use strict';

const Redis = require('ioredis');
const ReserveResource = require('redis-reservation');

const { REDIS_HOST = '127.0.0.1', REDIS_PORT = 6379 } = process.env;
const store = new Redis(REDIS_PORT, REDIS_HOST);
const write_if_writer = `
  if redis.call('hget', KEYS[1], 'writer') ~= ARGV[1] then return 0 end
  return redis.call('hset', KEYS[1], 'body', ARGV[2]) + 1`;

async function begin(name, options) {
  const reservation = new ReserveResource(name, REDIS_HOST, REDIS_PORT, 500, 2, false, '', options);
  reservation.on('lost', (err) => console.log(`${name}: ${err.code}`));
  await reservation.wait_until_lock('report');
  const token = reservation._reserve_val; // new and unguessable at every acquisition
  await store.hset('report', 'writer', token);
  if (!reservation.held) throw new Error(`${name} was late`); // it may just have overwritten another name
  const write = (body) => store.eval(write_if_writer, 1, 'report', token, body);
  return { write, release: () => reservation.release() };
}

async function main() {
  const slow = await begin('slow', { max_hold: 1000 }); // loses its lock after 1 s, as after a pause
  const next = await begin('next');
  console.log('slow writes:', (await slow.write('old')) > 0);
  console.log('next writes:', (await next.write('new')) > 0);
  await next.release();
  store.disconnect();
}

main().catch((err) => {
  console.error(err);
  process.exit(1);
});
