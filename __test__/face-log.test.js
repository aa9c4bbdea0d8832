// Every form of the `log` argument, and everything that callers put in the place of `logger`.
'use strict';

const assert = require('node:assert/strict');
const { test } = require('node:test');
const ReserveResource = require('../index.js');
const { MESSAGE, fail, make, stderrOf } = require('./support/log');

test('without log: console.log, looked up at each line', async (t) => {
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

test('a kayvee logger gets titles and events', async () => {
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

test('any other object becomes metadata of every line', async (t) => {
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

test('false is silent, until the logger gets an output', async (t) => {
  const written = t.mock.method(console, 'log', () => {});
  const reservation = make(false);
  await fail(reservation);
  assert.equal(written.mock.callCount(), 0);
  const lines = [];
  reservation.logger.setOutput((line) => lines.push(line));
  await fail(reservation);
  assert.equal(lines.length, 1);
});

test('a logger with serializers gets the fields first, without a level', async () => {
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

test("a logger without info, such as Nest's, gets lines through log; one with only error gets only errors", async (t) => {
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

test('a foreign error reaches a logger as a copy whose JSON has the message, and a kayvee logger as itself', async () => {
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

test('a method of the logger that is replaced gets the lines', async (t) => {
  const reservation = make(false);
  const own = t.mock.method(reservation.logger, 'infoD', () => {});
  await fail(reservation);
  assert.equal(own.mock.calls[0].arguments[0], 'reservation-failed');
});

test('a function assigned to logger gets lines', async () => {
  const lines = [];
  const reservation = make(false);
  reservation.logger = (line) => lines.push(JSON.parse(line));
  await fail(reservation);
  assert.equal(lines[0].title, 'reservation-failed');
  assert.equal(lines[0].source, 'worker');
});

test('logger is made at its first read, and uses by and metadata as they are at each line', async () => {
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

test('an object assigned to logger gets titles and data, as in 0.4.0', async () => {
  const calls = [];
  const reservation = make(false);
  reservation.logger = { infoD: (...parameters) => calls.push(parameters), errorD: assert.fail };
  await fail(reservation);
  assert.equal(calls[0][0], 'reservation-failed');
  assert.deepEqual(Object.keys(calls[0][1]), ['err']);
  reservation.logger = null;
  await fail(reservation);
});
