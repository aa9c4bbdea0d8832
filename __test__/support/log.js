// What the tests of log lines share: a call that fails before it needs redis and writes one line, and the lines on stderr.
'use strict';

const assert = require('node:assert/strict');
const ReserveResource = require('../../index.js');

const MESSAGE =
  'resource cannot be undefined. Pass a string, a number, or an object whose String(resource) is a name.';

/** A reservation that can reach no redis. */
function make(log, by = 'worker') {
  return new ReserveResource(by, '127.0.0.1', 1, 0, 2, log, 'p4ssw0rd');
}

/** Runs one failing call, with MESSAGE as its error. Resolves when its line was written. */
async function fail(reservation) {
  await assert.rejects(reservation.lock(undefined), { code: 'ERR_INVALID_ARG_TYPE', message: MESSAGE });
}

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

module.exports = { MESSAGE, fail, make, stderrOf };
