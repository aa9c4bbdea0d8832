// redlock-universal (on ioredis, its leanest lock) as a contender. It waits by polling, every 100 ms by default.
'use strict';

const { connect } = require('./ioredis');

const id = 'redlock-universal';

async function open({ host, port, ttl, poll }) {
  const { createLock, IoredisAdapter } = require('redlock-universal');
  const client = await connect({ host, port });
  const adapter = new IoredisAdapter(client);
  const settings = { adapter, ttl, performance: 'lean', retryAttempts: Number.MAX_SAFE_INTEGER };
  if (poll !== undefined) settings.retryDelay = poll;
  return {
    make(resource) {
      const lock = createLock({ ...settings, key: `redlock-universal-${resource}` });
      let handle;
      const wait = async () => {
        handle = await lock.acquire();
        return handle;
      };
      return { acquire: wait, wait, release: () => lock.release(handle) };
    },
    close: async () => client.disconnect(),
  };
}

// It cannot renew each second: with an interval of a second or less it renews without a pause.
module.exports = { id, label: 'redlock-universal', safe: true, waits: true, renews: false, open };
