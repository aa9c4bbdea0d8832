// The published test file of redis-reservation 0.4.0, byte for byte as npm delivers it, run against
// this package with the test runner and compiler of its day.
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

// It wants an exception thrown at the process, in the words of Node 0.10 ("connect ECONNREFUSED",
// without the address that Node has added since), so 0.4.0 itself does not pass it any more. This
// package gives the error to lock's callback instead; the worker of that test ignores it and ends
// with a bare 'no_reservations', on which the test then looks for a message.
const failing = 'fails on no redis';

test("the original's own tests pass, but for the one that wants a throw", async (t) => {
  // The failing one waits for the whole time limit, so it gets a run, and a shorter limit, of its own.
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

/** Runs the file with old mocha against a server of its own: its report, and all that was printed. */
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
  // The test prints lines of its own before the report.
  const start = child.stdout.indexOf('{\n  "stats"');
  assert.ok(start >= 0, `mocha gave no report:\n${output}`);
  return { report: JSON.parse(child.stdout.slice(start)), output };
}
