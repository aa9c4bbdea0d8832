// A proxy to a server that closes each connection at the first command or earlier, as does a proxy that has lost its server, a
// firewall that only knows the greeting, or a node without file descriptors.
'use strict';

const { once } = require('node:events');
const net = require('node:net');
const tls = require('node:tls');
const { certificates } = require('./certificates');
const { host } = require('./ports');

// The first commands after the greeting.
const command = /\r\n(SET|GET|EVALSHA|CLUSTER|SENTINEL)\r\n/;

/** How a connection ends. */
const ends = {
  close: (socket) => socket.end(() => socket.destroy()),
  reset: (socket) => socket.resetAndDestroy(),
  garbage: (socket) => socket.end('\x00garbage\r\n', () => socket.destroy()),
};

/**
 * Starts one before the server at `port`; `secure`: it uses TLS. Resolves with an object:
 * `close({ when, how })`: from now on each connection ends `when` the first 'command' has come, or the first 'answer' of the
 * greeting has been sent, or its last ('greeted'); `how`: 'close', 'reset', 'garbage'. `heal()`: ends that. `cut()`: ends all
 * open connections, once. `accepted`: the number of connections.
 */
async function startClosing(t, port, { secure = false } = {}) {
  const way = { accepted: 0, rule: null };
  const open = new Set();
  const join = (client) => {
    way.accepted += 1;
    const server = net.connect({ port, host, noDelay: true });
    const link = { client, server, greeting: '' };
    open.add(link);
    const end = () => {
      open.delete(link);
      client.destroy();
      server.destroy();
    };
    for (const socket of [client, server]) socket.on('error', () => {}).on('close', end);
    const endBy = ({ how }) => {
      open.delete(link);
      server.removeListener('data', answer);
      client.removeListener('data', ask);
      ends[how](client);
    };
    const ask = (bytes) => {
      const text = bytes.toString('latin1');
      if (way.rule && way.rule.when === 'command' && command.test(text)) return endBy(way.rule);
      link.greeting += text;
      server.write(bytes);
    };
    const answer = (bytes) => {
      client.write(bytes);
      const when = way.rule && way.rule.when;
      const isGreeted = /\r\nSCRIPT\r\n/.test(link.greeting);
      if (when === 'answer' || (when === 'greeted' && isGreeted)) endBy(way.rule);
    };
    client.on('data', ask);
    server.on('data', answer);
  };
  const { cert, key } = secure ? certificates().server : {};
  const listener = secure ? tls.createServer({ cert, key }, join) : net.createServer({ noDelay: true }, join);
  listener.on('tlsClientError', () => {});
  listener.listen(0, host);
  await once(listener, 'listening');
  way.port = listener.address().port;
  way.close = ({ when = 'command', how = 'close' } = {}) => {
    way.rule = { when, how };
  };
  way.heal = () => {
    way.rule = null;
  };
  way.cut = () => {
    for (const { client } of [...open]) client.destroy();
  };
  t.after(() => {
    listener.close();
    way.cut();
  });
  return way;
}

module.exports = { startClosing };
