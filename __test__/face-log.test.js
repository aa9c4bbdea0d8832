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

/** What is written to stderr while `run` runs: lines, parsed. */
async function stderrOf(t, run) {
  const lines = [];
  const own = t.mock.method(console, 'error', (...parameters) => {
    assert.equal(parameters.length, 1);
    lines.push(JSON.parse(parameters[0]));
  });
  await run();
  own.mock.restore();
  return lines;
}

const broken = () => {
  throw new Error('log of https://me:s3/cret@logs.example/');
};

// Each made anew: a log is complained of once.
const BROKEN = {
  'a function that throws': () => () => broken(),
  'an async function': () => async () => broken(),
  'a class': () => class Log {},
  'a logger that throws': () => ({ infoD: broken, errorD: broken }),
  'a logger that rejects': () => ({ info: async () => broken(), error: broken }),
  'a getter that throws': () => Object.defineProperty({}, 'infoD', { get: broken }),
  'a proxy that throws': () => new Proxy({}, { get: broken, ownKeys: broken }),
  'a thenable that throws': () => () => ({ then: broken }),
  'an error that cannot be read': () => () => {
    throw new Proxy({}, { get: broken, getPrototypeOf: broken });
  },
};

const REASONS = { 'a class': /TypeError/, 'an error that cannot be read': /cannot be read/ };

for (const [title, log] of Object.entries(BROKEN)) {
  test(`${title} costs no line: all are on stderr, and once the reason and the remedy`, async (t) => {
    const reservation = make(log());
    const lines = await stderrOf(t, async () => {
      await fail(reservation);
      await fail(reservation);
    });
    assert.deepEqual(
      lines.map((line) => line.title),
      ['log-failed', 'reservation-failed', 'reservation-failed'],
    );
    const [complaint, line] = lines;
    assert.deepEqual(
      [complaint.level, complaint.source, complaint.via],
      ['error', 'worker', 'node-redis-reservation'],
    );
    assert.match(complaint.err, REASONS[title] || /^Error: log of https:\/\/\[hidden\]@logs.example/);
    assert.match(complaint.remedy, /stderr.*logger\.info\.bind\(logger\)/);
    assert.deepEqual(line, {
      level: 'info',
      source: 'worker',
      via: 'node-redis-reservation',
      title: 'reservation-failed',
      err: `Error: ${MESSAGE}`,
    });
    assert.ok(!JSON.stringify(lines).includes('p4ssw0rd'));
  });
}

test('what is put in the place of logger and is none is told of, and costs no line', async (t) => {
  const throwing = make(false);
  Object.defineProperty(throwing, 'logger', { get: broken });
  const empty = make(false);
  empty.logger = { warn: () => assert.fail('nothing is a warning') };
  const output = make(false);
  output.logger.setOutput('a file');
  const lines = await stderrOf(t, async () => {
    for (const reservation of [throwing, empty, output]) await fail(reservation);
  });
  assert.deepEqual(
    lines.map((line) => line.title),
    new Array(3).fill(['log-failed', 'reservation-failed']).flat(),
  );
  assert.match(lines[2].err, /none of the methods infoD, errorD, info, error/);
});

test('a console that throws as well breaks nothing', async (t) => {
  const own = t.mock.method(console, 'error', broken);
  await fail(make(() => broken()));
  assert.equal(own.mock.callCount(), 1);
});

test('a function is called without a logger as its this, and its this is nobody in sloppy code', async (t) => {
  const seen = [];
  const lines = await stderrOf(t, async () => {
    await fail(
      make(function strict() {
        seen.push(this);
      }),
    );
    // As bunyan's methods do: they return without a word where they find nothing of theirs.
    await fail(make(new Function('if (!this._emit) return;')));
    await fail(make(new Function('line', 'JSON.parse(line)')));
  });
  assert.deepEqual(seen, [undefined]);
  assert.deepEqual(
    lines.map((line) => line.title),
    ['log-failed', 'reservation-failed'],
  );
  assert.match(lines[0].err, /_emit/);
});

test('a logger that takes fields first is known by its serializers; its level is its own', async () => {
  for (const mark of [{ [Symbol.for('pino.serializers')]: {} }, { addSerializers() {} }]) {
    const calls = [];
    const log = Object.assign({ info: (...parameters) => calls.push(parameters), error: assert.fail }, mark);
    await fail(make(log));
    const replaced = make(false);
    replaced.logger = Object.create(log);
    await fail(replaced);
    for (const [fields, title] of calls) {
      assert.equal(title, 'reservation-failed');
      assert.equal(fields.err.message, MESSAGE);
      assert.ok(!('level' in fields));
    }
    assert.equal(calls.length, 2);
    assert.equal(calls[0][0].title, 'reservation-failed');
  }
});

test("Nest's logger, which has no info, gets its lines by log; one that has error alone gets errors alone", async (t) => {
  const calls = [];
  const log = (...parameters) => calls.push(parameters);
  await fail(make({ log, error: assert.fail, warn: assert.fail, debug: assert.fail }));
  assert.equal(calls[0][0], 'reservation-failed');
  assert.equal(calls[0][1].err.message, MESSAGE);
  const errors = [];
  const reservation = make({ error: (title) => errors.push(title) });
  const lines = await stderrOf(t, async () => {
    await fail(reservation);
    reservation.logger.errorD('mine', {});
  });
  assert.deepEqual([errors, lines], [['mine'], []]);
});

test("an error that is not ours arrives with its message where JSON is made of it, and is itself for kayvee's", async () => {
  const reason = Object.assign(new Error('deploy'), { code: 'STOP', secret: 's3cret' });
  const events = [];
  const info = (_title, event) => events.push(event);
  make({ info, error() {} }).logger.infoD('t', { err: reason, at: 5 });
  assert.deepEqual(JSON.parse(JSON.stringify(events[0].err)), {
    name: 'Error',
    code: 'STOP',
    message: 'deploy',
  });
  assert.equal(events[0].err.stack, reason.stack);
  assert.deepEqual(Object.keys(reason), ['code', 'secret']);
  make({ infoD: info }).logger.infoD('t', { err: reason });
  assert.equal(events[1].err, reason);
});

test('a method put in the place of one of the logger gets the lines', async (t) => {
  const reservation = make(false);
  const own = t.mock.method(reservation.logger, 'infoD', () => {});
  await fail(reservation);
  assert.equal(own.mock.calls[0].arguments[0], 'reservation-failed');
});

test('a function put in the place of logger gets lines', async () => {
  const lines = [];
  const reservation = make(false);
  reservation.logger = (line) => lines.push(JSON.parse(line));
  await fail(reservation);
  assert.equal(lines[0].title, 'reservation-failed');
  assert.equal(lines[0].source, 'worker');
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
