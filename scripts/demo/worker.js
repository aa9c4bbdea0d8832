// A worker in JS, with promises. It works until the story tells it to 'finish', or until its lock is lost.
'use strict';

const { once } = require('node:events');
const ReserveResource = require('redis-reservation');

const job = 'nightly-report';
const [name] = process.argv.slice(2);
const reservation = new ReserveResource(name, process.env.REDIS_HOST, process.env.REDIS_PORT, 500, 2, false);

const tell = (event, details) => process.send({ event, ...details });

async function main() {
  await once(process, 'message'); // 'go'
  tell('wants the lock');
  const had = await reservation.lock(job);
  tell(`lock ${had}`);
  if (!had) await reservation.wait_until_lock(job);

  const { signal } = reservation; // aborted when the lock is lost
  reservation.on('lost', (error) => {
    const { code, message } = error;
    tell('lost', { code, message, held: reservation.held, aborted: signal.aborted });
  });
  tell('job begins');
  const finished = once(process, 'message').then(() => tell('job ends')); // 'finish'
  await Promise.race([finished, once(signal, 'abort')]);
  await reservation.release(); // after a loss there is nothing to free, which is no error
  tell('released');
}

main().then(
  () => process.disconnect(),
  (error) => {
    console.error(error);
    process.exit(1);
  },
);
