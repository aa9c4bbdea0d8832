// A log that throws, rejects or is no log costs no line: the lines are on stderr, with the reason and the remedy.
'use strict';

const assert = require('node:assert/strict');
const { test } = require('node:test');
const { MESSAGE, fail, make, stderrOf } = require('./support/log');

const broken = () => {
  throw new Error('log of https://me:s3/cret@logs.example/');
};

// Each test makes a new one, since the complaint about a log comes once.
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
  test(`${title} costs no line: all are on stderr, with the reason and the remedy once`, async (t) => {
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

test('a value assigned to logger that is no logger costs no line, and stderr has the reason', async (t) => {
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

test('a console that throws as well breaks no call', async (t) => {
  const own = t.mock.method(console, 'error', broken);
  await fail(make(() => broken()));
  assert.equal(own.mock.callCount(), 1);
});

test('a function is called with undefined as this; a sloppy function does not get the global object', async (t) => {
  const seen = [];
  const lines = await stderrOf(t, async () => {
    await fail(
      make(function strict() {
        seen.push(this);
      }),
    );
    // As bunyan's methods: they return silently if this is not their logger.
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
