// simple-redis-mutex (on node-redis) as a contender. Its releases are published by pub/sub; it polls every 10 s by default.
'use strict';

const { connect } = require('./node-redis');

const id = 'simple-redis-mutex';

async function open({ host, port, ttl, poll }) {
  const { lock, tryLock } = require('simple-redis-mutex');
  const client = await connect({ host, port });
  const settings = { timeout: ttl };
  if (poll !== undefined) settings.pollingInterval = poll;
  return {
    make(resource) {
      let release;
      return {
        async acquire() {
          const [locked, give] = await tryLock(client, resource, settings);
          release = give;
          return locked;
        },
        async wait() {
          release = await lock(client, resource, settings);
        },
        release: () => release(),
      };
    },
    close: async () => client.destroy(),
  };
}

module.exports = { id, label: 'simple-redis-mutex', safe: true, waits: true, renews: false, open };
