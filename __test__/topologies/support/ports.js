// Free loopback ports for servers that must know each other's port before they start, and restart on their own.
'use strict';

const { once } = require('node:events');
const net = require('node:net');

const host = '127.0.0.1';

// Below the range of the system: the system also gives its ports to connections, so a server that restarts might lose its port.
// The nodes of a cluster also listen 10,000 above their port.
const lowest = 11000;
const count = 10000;
const busDistance = 10000;

/** So many ports on which nothing listens right now, nor on those 10,000 above. */
async function freePorts(number) {
  const found = new Set();
  while (found.size < number) {
    const port = lowest + Math.floor(Math.random() * count);
    if (!found.has(port) && (await isFree(port)) && (await isFree(port + busDistance))) found.add(port);
  }
  return [...found];
}

function isFree(port) {
  return new Promise((resolve) => {
    const listener = net.createServer();
    listener.once('error', () => resolve(false));
    listener.listen(port, host, async () => {
      listener.close();
      await once(listener, 'close');
      resolve(true);
    });
  });
}

/**
 * Resolves with the result of `start(ports)`. Another program may take a port before the start: then `start`, which must end
 * what it had started, is called again with other ports.
 */
async function withFreePorts(number, start) {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await start(await freePorts(number));
    } catch (error) {
      if (attempt === 5 || !/Address already in use/.test(error.message)) throw error;
    }
  }
}

module.exports = { host, freePorts, withFreePorts, busDistance };
