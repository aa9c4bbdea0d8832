// A proxy to a node that can vanish: data gets lost, and a connect is neither accepted nor refused, as with an unplugged
// machine or a firewall that drops. (A stopped node still accepts.)
'use strict';

const { once } = require('node:events');
const net = require('node:net');
const path = require('node:path');
const { setTimeout: sleep } = require('node:timers/promises');
const { startChild } = require('../../support/child');
const { host } = require('./ports');

/** Puts one before the node at `port`. Resolves with `{ port, vanish(), appear() }`. */
async function startBlackHole(t, port) {
  const child = startChild(t, path.join(__dirname, 'black-hole.child.js'), { args: [host, String(port)] });
  const { port: own } = await child.message((message) => message.port > 0);
  let waiting = [];
  const connects = async () => {
    const socket = net.connect(own, host).on('error', () => {});
    waiting.push(socket);
    return Promise.race([once(socket, 'connect').then(() => true), sleep(200).then(() => false)]);
  };
  return {
    port: own,
    async vanish() {
      process.kill(child.pid, 'SIGSTOP');
      // Until the backlog is full.
      while (await connects());
    },
    appear() {
      for (const socket of waiting) socket.destroy();
      waiting = [];
      process.kill(child.pid, 'SIGCONT');
    },
  };
}

module.exports = { startBlackHole };
