// Bare node-redis as a contender: SET NX PX and DEL, the least that a lock needs. Not a safe lock: it deletes unchecked.
'use strict';

const id = 'node-redis';

async function open({ host, port, ttl }) {
  const client = await connect({ host, port });
  return {
    make(resource) {
      const key = `node-redis-${resource}`;
      return {
        acquire: () => client.set(key, 'value', { NX: true, PX: ttl }),
        release: () => client.del(key),
      };
    },
    close: async () => client.destroy(),
  };
}

/** Also for the locks that use node-redis. */
async function connect({ host, port }) {
  const { createClient } = require('redis');
  const client = createClient({ socket: { host, port } });
  client.on('error', () => {}); // without a listener it ends the process
  await client.connect();
  return client;
}

module.exports = { id, label: 'node-redis, bare', safe: false, waits: false, renews: false, open, connect };
