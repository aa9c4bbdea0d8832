// Bare ioredis 5 as a contender: SET NX PX and DEL, the least that a lock needs. Not a safe lock: it deletes unchecked.
'use strict';

const id = 'ioredis';

async function open({ host, port, ttl }) {
  const client = await connect({ host, port });
  return {
    make(resource) {
      const key = `ioredis-${resource}`;
      return {
        acquire: () => client.set(key, 'value', 'PX', ttl, 'NX'),
        release: () => client.del(key),
      };
    },
    close: async () => client.disconnect(),
  };
}

/** Also for the locks that use ioredis. */
async function connect({ host, port }) {
  const Redis = require('ioredis');
  const client = new Redis({ host, port, lazyConnect: true });
  await client.connect();
  return client;
}

module.exports = { id, label: 'ioredis, bare', safe: false, waits: false, renews: false, open, connect };
