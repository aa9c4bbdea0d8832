// The child that process.test.js forks: tries to lock what its parent holds, locks another resource, and ends on command.
'use strict';

const ReserveResource = require('../../index.js');

const { REDIS_HOST, REDIS_PORT } = process.env;
const [how] = process.argv.slice(2);
const reservation = new ReserveResource('child', REDIS_HOST, REDIS_PORT, 100, 2, false);

process.on('message', (message) => {
  if (message === 'exit') process.exit(9);
  process.disconnect();
});

Promise.all([reservation.lock('main'), reservation.lock(`own ${how}`)]).then(([main, own]) => {
  process.send({ main, own });
});
