// The log lines of real calls: their fields, their order, and where each form of `log` sends them.
'use strict';

const assert = require('node:assert/strict');
const { test } = require('node:test');
const { startChild } = require('./support/child');
const { makeReservation, keepLosses } = require('./support/reservation');
const { startServer, freePort } = require('./support/server');
const { until } = require('./support/wait');

const line = (level, title, data, source = 'worker') =>
  JSON.stringify({ level, source, via: 'node-redis-reservation', title, ...data });

/** A `log` that keeps the lines. */
function keepLines() {
  const log = (...args) => {
    assert.equal(args.length, 1);
    log.lines.push(args[0]);
  };
  log.lines = [];
  return log;
}

test('the lines of a lock, a renewal and a release', async (t) => {
  const server = await startServer(t);
  const log = keepLines();
  const reservation = makeReservation(t, server, { log });
  await reservation.lock('job');
  const { _reserve_val: val } = reservation;
  await reservation.ensure_reservation();
  await reservation.release();
  const key = 'reservation-job';
  assert.deepEqual(log.lines, [
    line('info', 'reservation-attempted', { resource: 'job', lock_status: true, key }),
    line('info', 'reservation-extended', { key, duration: '30s', val }),
    line('info', 'reservation-released', { key }),
  ]);
});

test('the lines of a lock that another holds name the holder', async (t) => {
  const server = await startServer(t);
  await server.client().set('reservation-job', 'other-1');
  const log = keepLines();
  await makeReservation(t, server, { log }).lock('job');
  const key = 'reservation-job';
  assert.deepEqual(log.lines, [
    line('info', 'reservation-exists', { key, resource: 'job', val: 'other-1' }),
    line('info', 'reservation-attempted', { resource: 'job', lock_status: false, key }),
  ]);
});

test('the lines of a wait: its attempts and its success', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  await client.set('reservation-job', 'other-1');
  const log = keepLines();
  const waiting = makeReservation(t, server, { log }).wait_until_lock('job');
  await until(() => log.lines.length >= 3, { what: 'an attempt' });
  await client.del('reservation-job');
  await waiting;
  const key = 'reservation-job';
  const attempt = [
    line('info', 'reservation-exists', { key, resource: 'job', val: 'other-1' }),
    line('info', 'reservation-attempted', { resource: 'job', lock_status: false, key }),
    line('info', 'reservation-attempt', { resource: 'job', lock_status: false }),
  ];
  assert.deepEqual(log.lines.slice(0, 3), attempt);
  assert.deepEqual(log.lines.slice(-3), [
    line('info', 'reservation-attempted', { resource: 'job', lock_status: true, key }),
    line('info', 'reservation-attempt', { resource: 'job', lock_status: true }),
    line('info', 'reservation-acquired', { resource: 'job', key }),
  ]);
});

test('the lines of failures and of a loss', async (t) => {
  const port = await freePort();
  const log = keepLines();
  const reservation = makeReservation(t, { host: '127.0.0.1', port }, { log, interval: 100 });
  const losses = keepLosses(reservation);
  const { message } = await reservation.lock('job').catch((error) => error);
  const [key, err] = ['reservation-job', `Error: ${message}`];
  assert.deepEqual(log.lines.splice(0), [
    line('error', 'redis-error', { host: '127.0.0.1', port, err }),
    line('info', 'reservation-failed', { resource: 'job', key, err }),
  ]);
  const server = await startServer(t, { port });
  await reservation.lock('job');
  const { _reserve_val: val } = reservation;
  await server.client().set(key, 'thief-1');
  await until(() => losses.length > 0, { what: 'the loss' });
  const wanted = line('error', 'reservation-lost', { key, val, holder: 'thief-1' });
  assert.equal(log.lines.filter((one) => one === wanted).length, 1, log.lines.join('\n'));
  await server.client().del(key);
  await reservation.lock('job');
  const second = reservation._reserve_val;
  await server.kill();
  await reservation.release().catch(() => {});
  await until(() => log.lines.includes(line('error', 'reservation-release-failed', { key, val: second })), {
    what: 'the failed release',
  });
});

test('every form of the log argument', async (t) => {
  const server = await startServer(t);
  const work = async (log) => {
    const reservation = makeReservation(t, server, { log });
    assert.equal(await reservation.lock('job'), true);
    await reservation.release();
  };
  const titles = ['reservation-attempted', 'reservation-released'];

  const kayvee = [];
  await work({
    infoD: (title, event) => kayvee.push([title, event.key]),
    errorD: () => assert.fail('no errors here'),
    info: () => assert.fail('infoD goes before info'),
  });
  assert.deepEqual(
    kayvee,
    titles.map((title) => [title, 'reservation-job']),
  );

  const plain = [];
  await work({ info: (...args) => plain.push(args), error: () => {} });
  assert.deepEqual(
    plain.map(([title]) => title),
    titles,
  );
  assert.equal(plain[0][1].lock_status, true);

  const made_up = t.mock.method(console, 'error', () => {});
  for (const broken of [
    () => {
      throw new Error('a log that throws');
    },
    () => Promise.reject(new Error('a log that rejects')),
    {
      info() {
        throw new Error('a logger that throws');
      },
    },
    {
      get info() {
        throw new Error('a logger that cannot even be asked');
      },
    },
  ]) {
    made_up.mock.resetCalls();
    await work(broken);
    assert.deepEqual(
      made_up.mock.calls.map(({ arguments: [text] }) => JSON.parse(text).title),
      ['log-failed', ...titles],
    );
  }
});

test('the default is console.log, looked up at each line; false is silent; metadata is merged', async (t) => {
  const server = await startServer(t);
  const code = `
    const ReserveResource = require('./index.js');
    const { REDIS_HOST, REDIS_PORT } = process.env;
    const work = async (log) => {
      const reservation = new ReserveResource('worker', REDIS_HOST, REDIS_PORT, 1000, 30, log);
      await reservation.lock('job');
      await reservation.release();
    };
    (async () => {
      await work();
      await work(null);
      await work(false);
      await work({ team: 'nightly', via: 'metadata wins' });
      console.log = (text) => process.send(JSON.parse(text).title);
      await work();
      process.disconnect();
    })();`;
  const child = startChild(t, { code }, { env: server.environment });
  assert.deepEqual(await child.exit(), { code: 0, signal: null });
  const key = 'reservation-job';
  const usual = [
    line('info', 'reservation-attempted', { resource: 'job', lock_status: true, key }),
    line('info', 'reservation-released', { key }),
  ];
  const lines = child.stdout.trim().split('\n');
  assert.deepEqual(lines.slice(0, 4), [...usual, ...usual]);
  assert.equal(lines.length, 6);
  assert.match(lines[4], /"team":"nightly","title":"reservation-attempted"/);
  assert.deepEqual(child.messages.all, ['reservation-attempted', 'reservation-released']);
  assert.equal(child.stderr, '');
});

test('KAYVEE_LOG_LEVEL is the threshold', async (t) => {
  const server = await startServer(t);
  const code = `
    const ReserveResource = require('./index.js');
    const reservation = new ReserveResource('worker', process.env.REDIS_HOST, process.env.REDIS_PORT, 100, 30);
    reservation.on('lost', () => process.disconnect());
    reservation.lock('job', () => process.send('locked'));
    process.on('message', () => {});`;
  const child = startChild(t, { code }, { env: { ...server.environment, KAYVEE_LOG_LEVEL: 'error' } });
  await child.message((message) => message === 'locked');
  await server.client().del('reservation-job');
  await child.exit();
  assert.deepEqual(
    child.lines.all.map((text) => JSON.parse(text).title),
    ['reservation-lost'],
  );
});

test('of the lines that pile up while the loop is blocked, 1,000 are kept and the rest are counted', async (t) => {
  const server = await startServer(t);
  const code = `
    const ReserveResource = require('./index.js');
    const lines = [];
    const { REDIS_HOST, REDIS_PORT } = process.env;
    const log = (line) => lines.push(JSON.parse(line));
    const reservation = new ReserveResource('worker', REDIS_HOST, REDIS_PORT, 200, 30, log);
    const names = Array.from({ length: 1000 }, (_, index) => 'job ' + index);
    Promise.all(names.map((name) => reservation.lock(name))).then(() => {
      lines.length = 0;
      process.once('message', () => {
        // Blocked until the parent has seen enough renewals.
        require('node:fs').readSync(0, Buffer.alloc(1));
        setImmediate(function look() {
          const extended = lines.filter(({ title }) => title === 'reservation-extended').length;
          const others = lines.filter(({ title }) => title !== 'reservation-extended');
          if (others.length === 0) return setImmediate(look);
          process.send({ extended, others });
        });
      });
      process.send('locked');
    });`;
  const child = startChild(t, { code }, { env: server.environment });
  await child.message((message) => message === 'locked');
  const client = server.client();
  const pexpires = async () =>
    Number(/cmdstat_pexpire:calls=(\d+)/.exec(await client.info('commandstats'))?.[1] ?? 0);
  child.send('block');
  const before = await pexpires();
  await until(async () => (await pexpires()) >= before + 5000, { timeout: 15000, what: 'renewals' });
  child.process.stdin.write('x');
  const { extended, others } = await child.message();
  assert.ok(extended <= 2200, `${extended} lines`);
  const counted = others.reduce((sum, { count }) => sum + count, 0);
  assert.ok(counted >= 3000, JSON.stringify(others));
});
