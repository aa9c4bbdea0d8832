// redis-semaphore's Mutex (on ioredis) as a contender. It waits by polling, every 10 ms by default.
'use strict';

const { connect } = require('./ioredis');

const id = 'redis-semaphore';

async function open({ host, port, ttl, heartbeat, poll }) {
  const { Mutex } = require('redis-semaphore');
  const client = await connect({ host, port });
  const settings = { lockTimeout: ttl, acquireTimeout: Number.MAX_SAFE_INTEGER };
  if (heartbeat !== undefined) settings.refreshInterval = heartbeat;
  if (poll !== undefined) settings.retryInterval = poll;
  return {
    make(resource, lost = () => {}) {
      const mutex = new Mutex(client, resource, { ...settings, onLockLost: lost });
      return {
        acquire: () => mutex.tryAcquire(),
        wait: () => mutex.acquire(),
        release: () => mutex.release(),
      };
    },
    close: async () => client.disconnect(),
  };
}

module.exports = { id, label: 'redis-semaphore', safe: true, waits: true, renews: true, open };
