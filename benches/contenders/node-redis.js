// Bare node-redis as a contender: SET NX PX and DEL, what a lock cannot do without. Not a safe lock: it deletes blindly.
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

/** Also what the locks that are made on top of node-redis are given. */
async function connect({ host, port }) {
  const { createClient } = require('redis');
  const client = createClient({ socket: { host, port } });
  client.on('error', () => {}); // without a listener it ends the process
  await client.connect();
  return client;
}

module.exports = { id, label: 'node-redis, bare', safe: false, waits: false, renews: false, open, connect };
