// The lines: byte for byte what kayvee, the logger of 0.4.0, makes of the same calls; and every form of the `log` argument.
// Calls here fail before redis is needed; each failure writes one line.
'use strict';

const assert = require('node:assert/strict');
const { once } = require('node:events');
const net = require('node:net');
const { test } = require('node:test');
const ReserveResource = require('../index.js');
const { startChild } = require('./support/child');

/** Runs one failing call and resolves when its line was written. */
async function fail(reservation) {
  await assert.rejects(reservation.lock(undefined), { code: 'ERR_INVALID_ARG_TYPE' });
}

function make(log, by = 'worker') {
  return new ReserveResource(by, '127.0.0.1', 1, 0, 2, log, 'p4ssw0rd');
}

const MESSAGE =
  'resource cannot be undefined. Pass a string, a number, or an object whose String(resource) is a name.';

// Written by both loggers in processes of their own, since kayvee reads the environment when it is loaded.
const SCRIPT = `
  const original = require.resolve('original/package.json');
  const kayvee = require(require.resolve('kayvee', { paths: [original] }));
  const ReserveResource = require('./index.js');
  const metadata = { team: 'x', title: 'mine', nested: { err: new TypeError('inner') }, gone: undefined };
  const theirs = new kayvee.logger('worker');
  theirs.globals.via = 'node-redis-reservation';
  theirs.globals = Object.assign({}, theirs.globals, metadata);
  const ours = new ReserveResource('worker', null, null, 1, 1, metadata).logger;
  for (const logger of [theirs, ours]) {
    const lines = [];
    logger.setOutput((line) => lines.push(line));
    const write = () => {
      for (const level of ['debug', 'info', 'warn', 'error', 'critical']) {
        logger[level]('plain');
        logger[level + 'D']('data', { resource: 5, err: new Error('broken'), level: 'own', at: new Date(0) });
      }
      logger.counter('count');
      logger.counterD('count', 3, { a: 1 });
      logger.gauge('gauge', 4);
      logger.gaugeD('gauge', 5, { a: 1 });
    };
    write();
    for (const level of ['warning', 'WARNING', 'nonsense', undefined]) {
      lines.push(String(logger.setLogLevel(level)));
      write();
    }
    logger.globals.added = true;
    logger.setFormatter((event) => Object.keys(event).join());
    logger.info('formatted');
    logger.setConfig('other', 'error', JSON.stringify, (line) => lines.push(line));
    write();
    process.send(lines);
  }
  process.disconnect();`;

for (const env of [
  {},
  { _DEPLOY_ENV: 'production' },
  { KAYVEE_LOG_LEVEL: 'error' },
  { KAYVEE_LOG_LEVEL: 'loud' },
]) {
  test(`lines are kayvee's, byte for byte, with ${JSON.stringify(env)}`, async (t) => {
    const child = startChild(t, { code: SCRIPT }, { env: { KAYVEE_LOG_LEVEL: '', _DEPLOY_ENV: '', ...env } });
    const theirs = await child.message();
    const ours = await child.message();
    assert.ok(theirs.length > 40, child.stderr);
    assert.deepEqual(ours, theirs);
  });
}

test('absent: console.log, looked up at each line', async (t) => {
  const lines = [];
  const own = t.mock.method(console, 'log', (line) => lines.push(line));
  for (const log of [undefined, null, {}]) await fail(make(log));
  own.mock.restore();
  assert.deepEqual(lines, [
    ...new Array(3).fill(
      `{"level":"info","source":"worker","via":"node-redis-reservation","title":"reservation-failed","err":"Error: ${MESSAGE}"}`,
    ),
  ]);
});

test('a function gets each line as its one argument', async () => {
  const calls = [];
  await fail(make((...parameters) => calls.push(parameters)));
  assert.equal(calls.length, 1);
  assert.equal(calls[0].length, 1);
  assert.equal(JSON.parse(calls[0][0]).title, 'reservation-failed');
});

test('a logger as kayvee makes them gets titles and events', async () => {
  const calls = [];
  const log = {
    infoD(...parameters) {
      assert.equal(this, log);
      calls.push(parameters);
    },
    errorD: assert.fail,
    info: assert.fail,
  };
  await fail(make(log));
  const [[title, event]] = calls;
  assert.equal(title, 'reservation-failed');
  assert.deepEqual(Object.keys(event), ['level', 'source', 'via', 'title', 'err']);
  assert.ok(event.err instanceof ReserveResource.InvalidArgumentError);
});

test('a logger with info and error gets titles and events', async () => {
  const calls = [];
  await fail(make({ info: (...parameters) => calls.push(parameters), error: assert.fail }));
  assert.equal(calls.length, 1);
  assert.equal(calls[0][0], 'reservation-failed');
  assert.equal(calls[0][1].source, 'worker');
});

test('any other object is metadata of every line', async (t) => {
  const lines = [];
  const own = t.mock.method(console, 'log', (line) => lines.push(line));
  await fail(make({ job: 7, team: 'x' }));
  own.mock.restore();
  assert.deepEqual(Object.keys(JSON.parse(lines[0])), [
    'level',
    'source',
    'via',
    'job',
    'team',
    'title',
    'err',
  ]);
});

test('false is silence, until the logger is given an output', async (t) => {
  const written = t.mock.method(console, 'log', () => {});
  const reservation = make(false);
  await fail(reservation);
  assert.equal(written.mock.callCount(), 0);
  const lines = [];
  reservation.logger.setOutput((line) => lines.push(line));
  await fail(reservation);
  assert.equal(lines.length, 1);
});

test('a log that throws, or rejects, or is torn in any other way breaks nothing', async () => {
  const broken = () => {
    throw new Error('log');
  };
  for (const log of [
    broken,
    async () => broken(),
    { infoD: broken, errorD: broken },
    { info: async () => broken(), error: broken },
    Object.defineProperty({}, 'infoD', { get: broken }),
    new Proxy({}, { get: broken, ownKeys: broken }),
  ]) {
    await fail(make(log));
  }
  const reservation = make(false);
  Object.defineProperty(reservation, 'logger', { get: broken });
  await fail(reservation);
});

test('values that JSON cannot hold do not cost the rest of the line', async () => {
  const lines = [];
  const reservation = make((line) => lines.push(JSON.parse(line)));
  const circular = {};
  circular.self = circular;
  reservation.logger.infoD('odd', { circular, big: 10n, fine: 1 });
  assert.deepEqual(lines[0], {
    level: 'info',
    source: 'worker',
    via: 'node-redis-reservation',
    title: 'odd',
    circular: '[unprintable]',
    big: '10',
    fine: 1,
  });
});

test('logger is made at its first read, for by and metadata as they are at each line', async () => {
  const lines = [];
  const reservation = make(false);
  assert.ok(!Object.hasOwn(reservation, 'logger'));
  assert.equal(reservation.logger, reservation.logger);
  assert.ok(Object.keys(reservation).includes('logger'));
  reservation.metadata = (line) => lines.push(JSON.parse(line));
  reservation.by = 'renamed';
  await fail(reservation);
  assert.equal(lines[0].source, 'renamed');
  reservation.logger.globals.source = 'fixed';
  reservation.by = 'again';
  await fail(reservation);
  assert.equal(lines[1].source, 'fixed');
  assert.equal(ReserveResource.prototype.logger, undefined);
  assert.ok(!Object.hasOwn(ReserveResource.prototype, 'by'));
});

test('a logger put in its place gets titles and data, as 0.4.0 gave them', async () => {
  const calls = [];
  const reservation = make(false);
  reservation.logger = { infoD: (...parameters) => calls.push(parameters), errorD: assert.fail };
  await fail(reservation);
  assert.equal(calls[0][0], 'reservation-failed');
  assert.deepEqual(Object.keys(calls[0][1]), ['err']);
  reservation.logger = null;
  await fail(reservation);
});

test('KAYVEE_LOG_LEVEL is the threshold for every form', async (t) => {
  t.after(() => delete process.env.KAYVEE_LOG_LEVEL);
  process.env.KAYVEE_LOG_LEVEL = 'error';
  await fail(make(assert.fail));
  await fail(make({ info: assert.fail, error: assert.fail }));
  await fail(make({ infoD: assert.fail, errorD: assert.fail }));
});

test('an endpoint that refuses: redis-error, then reservation-failed, and no password', async () => {
  const server = net.createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  server.close();
  const lines = [];
  const reservation = make((line) => lines.push(line));
  reservation.port = String(port);
  const error = await reservation.lock('r').catch((reason) => reason);
  const text = `Redis connection to 127.0.0.1:${port} failed - connect ECONNREFUSED 127.0.0.1:${port}`;
  assert.equal(error.message, text);
  assert.equal(String(error), `Error: ${text}`);
  assert.ok(error instanceof ReserveResource.RedisConnectionError);
  const start = '"source":"worker","via":"node-redis-reservation","title"';
  assert.deepEqual(lines, [
    `{"level":"error",${start}:"redis-error","host":"127.0.0.1","port":${port},"err":"Error: ${text}"}`,
    `{"level":"info",${start}:"reservation-failed","resource":"r","key":"reservation-r","err":"Error: ${text}"}`,
  ]);
});
