// The child of secrets.test.js: goes through one failing path with a password, and prints everything that it gets on the way,
// in full. The password comes by message, and the child itself never prints it.
'use strict';

const { inspect, format } = require('node:util');
const ReserveResource = require('../../index.js');

const write = (text) => process.stdout.write(`${text}\n`);

/** A value printed in every usual way. */
function say(what, value) {
  write(`== ${what}`);
  for (const text of [
    () => String(value),
    () => inspect(value),
    () =>
      inspect(value, {
        showHidden: true,
        depth: Infinity,
        getters: true,
        showProxy: true,
        maxArrayLength: null,
      }),
    () => inspect({ nested: [value] }, { depth: 9 }),
    () => format('%s %o %O %j', value, value, value, value),
    () => JSON.stringify(value, null, 1),
    () => JSON.stringify({ nested: [value] }),
    () =>
      value instanceof Error ? [value.message, value.stack, value.name, value.toString()].join('\n') : '',
    () => console.log(value),
  ]) {
    try {
      write(text());
    } catch (error) {
      write(`not printable: ${error}`);
    }
  }
  if (value instanceof Error && value.cause) say(`${what}, its cause`, value.cause);
}

process.on('warning', (warning) => say('a warning', warning));
process.on('uncaughtException', (error, origin) => {
  say(`uncaught, ${origin}`, error);
  losses += 1;
});
let losses = 0;

/** One instance. Prints its log lines, events, errors and the instance itself. */
function watched(what, { host, port, password, ttl = 2, log, options }) {
  const reservation = new ReserveResource('me', host, port, 200, ttl, log, password, options);
  // Half of them have a listener for losses. The losses of the others are uncaught exceptions.
  if (log === undefined) {
    reservation.on('lost', (error) => {
      say(`${what}: lost`, error);
      losses += 1;
    });
  }
  return reservation;
}

async function tryAll(what, reservation) {
  const calls = {
    lock: () => reservation.lock('job'),
    wait: () => reservation.wait_until_lock('job', { timeout: 700 }),
    renew: () => reservation.ensure_reservation(),
    expire: () => reservation._set_expiration(),
    release: () => reservation.release(),
    quit: () => reservation._init_redis().quit(),
  };
  for (const [name, call] of Object.entries(calls)) {
    await call().then(
      (value) => say(`${what}: ${name} gave`, value),
      (error) => say(`${what}: ${name} failed`, error),
    );
    // A field that is not the password field shows its value, even if that is a password.
    if (what !== 'arguments') say(`${what}: the instance after ${name}`, reservation);
  }
  for (const name of ['_redis', 'logger', 'signal', 'metadata']) say(`${what}: ${name}`, reservation[name]);
}

const title = (line) => write(`line: ${line}`);
const objects = { infoD: (...args) => say('infoD', args), errorD: (...args) => say('errorD', args) };

process.on('message', async ({ path, settings }) => {
  if (path === 'done') {
    process.disconnect();
    process.exit(0);
  }
  if (path === 'arguments') {
    const { password } = settings;
    const wrong = [
      { host: `redis://:${password}@localhost:6379` },
      { host: `user:${password}@localhost` },
      { host: { password } },
      { port: `redis://:${password}@localhost` },
      { port: { password } },
      { password: { password } },
      { password: [password] },
      { options: { password } },
      { options: { connect_timeout: { password } } },
      { ttl: { password } },
    ];
    for (const change of wrong)
      await tryAll('arguments', watched('arguments', { ...settings, log: title, ...change }));
  } else {
    const logs = [undefined, title, objects, { team: 'ours' }];
    const all = logs.map((log) => watched(path, { ...settings, log }));
    if (path === 'loss') {
      await all[0].lock('stolen');
      await all[1].lock('stolen too');
      say('held', all[0]);
      while (losses < 2) await new Promise(setImmediate);
    }
    await Promise.all(all.map((one) => tryAll(path, one)));
  }
  process.send({ done: path });
});
