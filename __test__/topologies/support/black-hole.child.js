// A proxy in a separate process, so that it can be stopped. black-hole.js starts it.
'use strict';

const net = require('node:net');

const [host, target] = process.argv.slice(2);
const listener = net.createServer((client) => {
  const server = net.connect(Number(target), host);
  const end = () => [client, server].forEach((socket) => socket.destroy());
  for (const socket of [client, server]) socket.setNoDelay(true).on('error', end).on('close', end);
  client.pipe(server).pipe(client);
});
// The backlog is so short that the system answers no further connection.
listener.listen({ port: 0, host, backlog: 1 }, () => process.send({ port: listener.address().port }));
