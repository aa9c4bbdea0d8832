// The log lines of 0.4.0 and of this package for the same calls: the same bytes, except where this package corrects 0.4.0.
'use strict';

const assert = require('node:assert/strict');
const { test } = require('node:test');
const { startChild } = require('./support/child');
const { startServer } = require('./support/server');

/** What a process prints during these calls. 0.4.0 prints on stderr, this package on stdout. */
async function linesOf(t, server, module, stream) {
  const code = `
    const ReserveResource = require(${JSON.stringify(module)});
    const [host, port] = [process.env.REDIS_HOST, process.env.REDIS_PORT];
    const reservation = new ReserveResource('worker', host, port, 20000, 60, { team: 'night', shift: 2 });
    reservation.lock('job', () =>
      reservation.lock('job', () =>
        reservation.release(() =>
          reservation.wait_until_lock('job', () => reservation.release(() => process.exit())))));`;
  const child = startChild(t, { code }, { env: { ...server.environment, JOB_ID: '4711' } });
  assert.equal((await child.exit()).code, 0, child.stderr);
  return child[stream].split('\n').filter((line) => line.startsWith('{'));
}

const isExists = (line) => line.includes('"title":"reservation-exists"');

test('the same bytes for the same calls', async (t) => {
  const server = await startServer(t);
  const theirs = await linesOf(t, server, 'original', 'stderr');
  const ours = await linesOf(t, server, './index.js', 'stdout');
  // Before each attempt 0.4.0 logs that a reservation exists, whether or not it does.
  assert.deepEqual(
    ours.filter((line) => !isExists(line)),
    theirs.filter((line) => !isExists(line)),
  );
  assert.ok(theirs.length > 6, theirs.join('\n'));

  const [exists, ...more] = ours.filter(isExists);
  assert.deepEqual(more, [], 'it existed once');
  const { val, ...rest } = JSON.parse(exists);
  assert.equal(JSON.stringify(rest), theirs.find(isExists));
  assert.match(val, /^worker-4711-[0-9a-f]{32}$/);
});
