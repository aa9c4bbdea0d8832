// The real packages of popular loggers as `log`: one lock is acquired and lost, another cannot reach redis. The tests check
// all output of the process: titles, fields, and the message of the error.
'use strict';

const assert = require('node:assert/strict');
const { test } = require('node:test');
const { startChild } = require('./support/child');
const { freePort, startServer } = require('./support/server');

const PASSWORD = 'p4ssw0rd';

const WINSTON = `const { createLogger, config, format, transports } = require('winston');
  const winston = (more) => createLogger({ level: 'debug', format: format.json(), transports: [new transports.Console()], ...more });`;
const LOG4JS = `const log4js = require('log4js');
  log4js.configure({ appenders: { out: { type: 'stdout', layout: { type: 'basic' } } }, categories: { default: { appenders: ['out'], level: 'debug' } } });`;
const KAYVEE = `const kayvee = require(require.resolve('kayvee', { paths: [require.resolve('original/package.json')] }));`;

const json = (text) =>
  text
    .split('\n')
    .filter((line) => line.startsWith('{'))
    .map((line) => JSON.parse(line));

// Each checks the output of a process that lost `lost` = { key, val } and failed to lock `failed` = { key }.
/** One object a line, with these names for the title and the level; the fields as members. */
const structured = (title, level, levels) => (out, lost, failed) => {
  const lines = json(out);
  const one = (wanted, key) => {
    const found = lines.filter((line) => line[title] === wanted && line.key === key);
    assert.equal(found.length, 1, `${wanted}: ${out}`);
    return found[0];
  };
  const loss = one('reservation-lost', lost.key);
  assert.equal(loss.val, lost.val);
  assert.equal(loss.source, 'worker');
  assert.equal(loss[level], levels.error);
  const { err, ...failure } = one('reservation-failed', failed.key);
  assert.equal(failure[level], levels.info);
  assert.match(err.message || err, /ECONNREFUSED/);
};
const numbers = structured('msg', 'level', { info: 30, error: 50 });
const words = structured('message', 'level', { info: 'info', error: 'error' });
const kayvee = structured('title', 'level', { info: 'info', error: 'error' });

/** Output for people, in any format. */
const text = (out, lost, failed) => {
  const said = out.slice(out.indexOf('reservation-lost'));
  for (const part of [lost.key, lost.val, 'worker', 'reservation-failed', failed.key, 'ECONNREFUSED']) {
    assert.ok(said.includes(part), `${part}: ${out}`);
  }
};

/** Kayvee's lines, written by a function. */
const lines = (out, lost, failed) => kayvee(out.replace(/^[^{\n]+{/gm, '{'), lost, failed);
const messages = (title) => (out, lost, failed) =>
  lines(
    json(out)
      .map((line) => line[title])
      .join('\n'),
    lost,
    failed,
  );

/** A method that was detached from its logger: the lines are on stderr, after one that names the remedy. */
const made_up = (out, lost, failed, err) => {
  const [complaint, ...more] = json(err);
  assert.equal(complaint.title, 'log-failed');
  assert.match(complaint.err, /TypeError/);
  assert.match(complaint.remedy, /logger\.info\.bind\(logger\)/);
  assert.equal(more.filter(({ title }) => title === 'log-failed').length, 0);
  kayvee(err, lost, failed);
};

const LOGGERS = {
  pino: [`require('pino')()`, numbers],
  'a child of pino': [`require('pino')().child({ job: 7 })`, numbers],
  'pino behind a proxy': [
    `new Proxy(require('pino')(), { get: (logger, name) => { const value = logger[name]; return typeof value === 'function' ? value.bind(logger) : value; } })`,
    numbers,
  ],
  winston: [`${WINSTON} winston()`, words],
  'winston, in a simple format': [`${WINSTON} winston({ format: format.simple() })`, text],
  'winston, with the levels of syslog': [`${WINSTON} winston({ levels: config.syslog.levels })`, words],
  'a child of winston': [`${WINSTON} winston().child({ job: 7 })`, words],
  bunyan: [`require('bunyan').createLogger({ name: 'app' })`, numbers],
  'bunyan with its serializers': [
    `const bunyan = require('bunyan'); bunyan.createLogger({ name: 'app', serializers: bunyan.stdSerializers }).child({ job: 7 })`,
    numbers,
  ],
  log4js: [`${LOG4JS} log4js.getLogger()`, text],
  loglevel: [`const loglevel = require('loglevel'); loglevel.setLevel('debug'); loglevel`, text],
  consola: [`require('consola').createConsola({ level: 4 })`, text],
  console: ['console', text],
  kayvee: [`${KAYVEE} new kayvee.logger('worker')`, kayvee],
  'pino.info, bound': [`const logger = require('pino')(); logger.info.bind(logger)`, messages('msg')],
  'pino.info': [`require('pino')().info`, made_up],
  'winston.info': [`${WINSTON} winston().info`, messages('message')],
  'bunyan.info': [`require('bunyan').createLogger({ name: 'app' }).info`, made_up],
  'log4js.info': [`${LOG4JS} log4js.getLogger().info`, made_up],
  'loglevel.info': [`const loglevel = require('loglevel'); loglevel.setLevel('debug'); loglevel.info`, lines],
  'consola.info': [`require('consola').createConsola({ level: 4 }).info`, lines],
  'console.info': ['console.info', lines],
  'kayvee.infoD': [`${KAYVEE} new kayvee.logger('worker').infoD`, made_up],
};

/** The last expression of a piece of code. */
const value_of = (code) => `eval(${JSON.stringify(code)})`;

const script = (log, [name, other], closed) => `
  const ReserveResource = require('./index.js');
  const log = ${value_of(log)};
  const { REDIS_HOST, REDIS_PORT } = process.env;
  const make = (port) => new ReserveResource('worker', REDIS_HOST, port, 100, 20, log, '${PASSWORD}');
  const reservation = make(REDIS_PORT);
  reservation.on('lost', async () => {
    await make(${closed}).lock('${other}').catch(() => {});
    process.disconnect();
  });
  process.on('message', () => {});
  reservation.lock('${name}').then(() => process.send(reservation._reserve_val));`;

test('every line arrives, with title, fields and message', { concurrency: 4 }, async (t) => {
  const server = await startServer(t);
  const closed = await freePort();
  const tests = Object.entries(LOGGERS).map(([title, [log, check]], number) => {
    const names = [`lost-${number}`, `failed-${number}`];
    const keys = names.map((name) => `reservation-${name}`);
    return t.test(title, async (subtest) => {
      const child = startChild(
        subtest,
        { code: script(log, names, closed) },
        { env: { ...server.environment, NODE_ENV: 'production', CI: '1', KAYVEE_LOG_LEVEL: '' } },
      );
      const val = await child.message();
      await server.client().set(keys[0], 'thief');
      assert.deepEqual(await child.exit(), { code: 0, signal: null }, child.stderr);
      const { stdout, stderr } = child;
      const out = check === made_up ? stdout : stdout + stderr;
      check(out, { key: keys[0], val }, { key: keys[1] }, stderr);
      assert.ok(!(stdout + stderr).includes(PASSWORD));
    });
  });
  await Promise.all(tests);
});
