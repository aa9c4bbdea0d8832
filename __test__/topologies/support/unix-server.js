// A redis-server on a unix socket, and on a port only if the test asks for one.
'use strict';

const path = require('node:path');
const { withFreePorts } = require('./ports');
const { Node } = require('./node');

/**
 * A node (see node.js) whose `socketPath` is the socket. `options.tcp`: it also listens on its `port`.
 * `options.permissions`: of the socket, '700' if not given. The rest is as in node.js.
 */
async function startUnixServer(t, { tcp = false, permissions = '700', config = {}, ...rest } = {}) {
  return withFreePorts(1, async ([port]) => {
    const node = new Node({ port, ...rest });
    if (t) t.after(() => node.stop());
    node.socketPath = path.join(node.dir, 'redis.sock');
    const socket = { unixsocket: node.socketPath, unixsocketperm: permissions };
    node.config = { ...socket, ...(tcp ? {} : { port: 0 }), ...config };
    await node.start();
    return node;
  });
}

module.exports = { startUnixServer };
