// Runs the published test file of redis-reservation 0.4.0, unchanged, against this package, with the test runner and compiler
// of its time.
'use strict';

const assert = require('node:assert/strict');
const path = require('node:path');
const { test } = require('node:test');
const { startChild, root } = require('./support/child');
const { startServer } = require('./support/server');

const original = path.dirname(require.resolve('original/package.json'));

const passing = [
  'allows you to create a bunch of reservations', // ten million of them
  'can reserve and release a lock',
  'can reserve and release a lock with redis password',
  'holds a lock while running',
  'can wait for a lock',
  'fails silently if resource is already reserved',
  'does not interfere for workers without reservations',
  'handles failing jobs',
];

// It expects an uncaught exception with the message of Node 0.10 ("connect ECONNREFUSED", without the address that Node has
// added since), so 0.4.0 itself fails it today. This package gives the error to lock's callback instead. The worker of that
// test ignores it and ends with 'no_reservations', which has no message for the test to compare.
const failing = 'fails on no redis';

test('the tests of 0.4.0 pass, except the one that expects an uncaught exception', async (t) => {
  // The failing test waits for its whole time limit, so it runs apart, with a shorter limit.
  const others = await runOriginalTests(t, ['--timeout', '60000', '--invert', '--grep', failing]);
  assert.deepEqual(titles(others.report.passes), [...passing].sort(), others.output);
  assert.deepEqual(titles(others.report.failures), [], others.output);

  const last = await runOriginalTests(t, ['--timeout', '6000', '--grep', failing]);
  assert.deepEqual(titles(last.report.passes), [], last.output);
  assert.deepEqual(titles(last.report.failures), [failing], last.output);
  assert.match(last.output, /ENDING slow_worker WORKER with args: \[ 'no_reservations' \]/);
});

function titles(tests) {
  return tests.map(({ title }) => title).sort();
}

/** Runs the file with old mocha against a private server. Gives mocha's report, and everything it printed. */
async function runOriginalTests(t, options) {
  const server = await startServer(t);
  const child = startChild(t, 'node_modules/mocha/bin/_mocha', {
    execArgv: ['--no-deprecation', '--require', path.join(root, '__test__', 'original', 'preload.js')],
    args: [
      ...['--reporter', 'json', '--compilers', 'coffee:coffee-script', ...options],
      path.join(original, 'test', 'reservation.coffee'),
    ],
    env: { ...server.environment, NODE_ENV: 'test', JOB_ID: '' },
  });
  await child.exit({ timeout: 180000 });
  const output = `${child.stdout}\n${child.stderr}`;
  // The test prints its own lines before the report.
  const start = child.stdout.indexOf('{\n  "stats"');
  assert.ok(start >= 0, `mocha gave no report:\n${output}`);
  return { report: JSON.parse(child.stdout.slice(start)), output };
}
