// node-redis-warlock (on ioredis) as a contender. It has no default interval for polling: here 10 ms.
'use strict';

const { connect } = require('./ioredis');

const id = 'warlock';

async function open({ host, port, ttl, poll = 10 }) {
  // It makes buffers in a deprecated way, of which Node warns on stderr.
  process.noDeprecation = true;
  const createWarlock = require('node-redis-warlock');
  const client = await connect({ host, port });
  const warlock = createWarlock(client);
  return {
    make(resource) {
      let unlock;
      const keep = (resolve, reject) => (error, given) => {
        unlock = given;
        if (error) reject(error);
        else resolve(typeof given === 'function');
      };
      return {
        acquire: () => new Promise((resolve, reject) => warlock.lock(resource, ttl, keep(resolve, reject))),
        wait: () =>
          new Promise((resolve, reject) => {
            warlock.optimistic(resource, ttl, Infinity, poll, keep(resolve, reject));
          }),
        release: () =>
          new Promise((resolve, reject) => {
            unlock((error, result) => (error ? reject(error) : resolve(result)));
          }),
      };
    },
    close: async () => client.disconnect(),
  };
}

module.exports = { id, label: 'node-redis-warlock', safe: true, waits: true, renews: false, open };
