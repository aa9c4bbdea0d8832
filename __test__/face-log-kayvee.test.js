// Log lines are, byte for byte, those that kayvee (the logger of 0.4.0) makes of the same calls; `logger` has its methods.
'use strict';

const assert = require('node:assert/strict');
const { once } = require('node:events');
const net = require('node:net');
const { test } = require('node:test');
const ReserveResource = require('../index.js');
const { startChild } = require('./support/child');
const { fail, make } = require('./support/log');

// Both loggers write in a process for each environment, since kayvee reads the environment when it is loaded.
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
      for (const level of ['trace', 'debug', 'info', 'warn', 'error', 'critical']) {
        logger[level]('plain');
        logger[level + 'D']('data', { resource: 5, err: new Error('broken'), level: 'own', at: new Date(0) });
      }
      logger.counter('count');
      logger.counterD('count', 3, { a: 1 });
      logger.gauge('gauge', 4);
      logger.gaugeD('gauge', 5, { a: 1 });
    };
    write();
    for (const level of ['trace', 'warning', 'WARNING', 'nonsense', undefined]) {
      lines.push(String(logger.setLogLevel(level)));
      write();
    }
    logger.globals.added = true;
    logger.setFormatter((event) => Object.keys(event).join());
    logger.info('formatted');
    logger.setConfig('other', 'error', JSON.stringify, (line) => lines.push(line));
    write();
    const storage = new (require('async_hooks').AsyncLocalStorage)();
    logger.setAsyncLocalStorage(storage);
    write();
    for (const context of [undefined, { request: 7, level: 'context' }, new Map([['request', 8]])]) {
      storage.run(new Map([['context', context]]), write);
    }
    process.send(lines);
  }
  process.disconnect();`;

for (const env of [
  {},
  { _DEPLOY_ENV: 'production' },
  {
    _TEAM_OWNER: 'team',
    _DEPLOY_ENV: 'production',
    _EXECUTION_NAME: 'workflow',
    _POD_ID: 'pod',
    _POD_SHORTNAME: 'p',
    _POD_REGION: 'here',
    _POD_ACCOUNT: 'ours',
  },
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

test("the logger has every method of kayvee's", () => {
  const kayvee = require(require.resolve('kayvee', { paths: [require.resolve('original/package.json')] }));
  const { logger } = make(false);
  const names = Object.getOwnPropertyNames(kayvee.logger.prototype).filter(
    (name) => name !== '_validateLogLvl',
  );
  assert.ok(names.includes('traceD'));
  assert.deepEqual(
    names.filter((name) => typeof logger[name] !== 'function'),
    [],
  );
});

test('a line keeps its other fields when JSON cannot hold one value', async () => {
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

test('KAYVEE_LOG_LEVEL is the threshold for every form of log', async (t) => {
  t.after(() => delete process.env.KAYVEE_LOG_LEVEL);
  process.env.KAYVEE_LOG_LEVEL = 'error';
  const calls = [];
  const note = (...parameters) => calls.push(parameters);
  const work = async () => {
    for (const log of [note, { info: note, error: note }, { infoD: note, errorD: note }])
      await fail(make(log));
  };
  await work();
  assert.deepEqual(calls, []);
  process.env.KAYVEE_LOG_LEVEL = 'info';
  await work();
  assert.equal(calls.length, 3);
});

test('a refused connection: the lines redis-error and reservation-failed, and no password', async () => {
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
