// The demo's redis: a private server on a free port, or the one that REDIS_HOST and REDIS_PORT name, where only the one key is
// touched.
'use strict';

const Redis = require('ioredis');
const { startServer } = require('../../__test__/support/server');

async function openRedis() {
  const { REDIS_HOST, REDIS_PORT } = process.env;
  if (!REDIS_HOST && !REDIS_PORT) {
    const server = await startServer(null);
    return {
      isOurs: true,
      described: `a private server on port ${server.port}, gone at the end`,
      environment: server.environment,
      client: server.client(),
      restart: () => server.restart({ data: false }),
      close: () => server.stop(),
    };
  }
  const host = REDIS_HOST || '127.0.0.1';
  const port = Number(REDIS_PORT || 6379);
  const client = new Redis({ host, port, lazyConnect: true, retryStrategy: () => null });
  let reason; // connect() rejects only with "closed"
  client.on('error', (error) => {
    reason = error;
  });
  await client.connect().catch((error) => {
    throw new Error(`No redis at ${host}:${port}: ${(reason || error).message}`);
  });
  return {
    isOurs: false,
    described: `yours, at ${host}:${port}`,
    environment: { REDIS_HOST: host, REDIS_PORT: String(port) },
    client,
    close: async () => client.disconnect(),
  };
}

module.exports = { openRedis };
