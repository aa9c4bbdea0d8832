// @redis-kit/lock (on node-redis, one server) as a contender. It waits by polling, every 200 to 300 ms by default.
'use strict';

const { connect } = require('./node-redis');

const id = 'redis-kit';

async function open({ host, port, ttl, heartbeat, poll }) {
  const { Redlock } = require('@redis-kit/lock');
  const client = await connect({ host, port });
  const settings = { maxRetryAttempts: Number.MAX_SAFE_INTEGER };
  if (poll !== undefined) Object.assign(settings, { retryDelayMs: poll, retryJitterMs: 0 });
  const redlock = new Redlock([client], settings);
  return {
    make(resource) {
      let lock;
      const wait = async () => {
        lock = await redlock.acquire(`redis-kit-${resource}`, ttl);
        if (heartbeat !== undefined) lock.startAutoExtension(Math.round(ttl - heartbeat));
        return lock;
      };
      return { acquire: wait, wait, release: () => lock.release() };
    },
    close: async () => client.destroy(),
  };
}

module.exports = { id, label: '@redis-kit/lock', safe: true, waits: true, renews: true, open };
