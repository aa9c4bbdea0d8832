// Free loopback ports for servers that must know each other's before they start, and that come back on their own.
'use strict';

const { once } = require('node:events');
const net = require('node:net');

const host = '127.0.0.1';

// Not what the system would give: those it gives to any connection too, and so takes them away while a server is down
// that a test wants back on its port. The nodes of a cluster also listen 10,000 above their port.
const lowest = 11000;
const count = 10000;
const busDistance = 10000;

/** So many ports that nobody listens on just now, nor on those 10,000 above. */
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
 * What `start(ports)` resolves with. Somebody may take a port between the look and the start: `start` is then called
 * again with others, after it has ended what it had started.
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
