// A torture run of 20 seconds with random faults, whose whole history is checked. For longer runs: `npm run torture -- --help`.
'use strict';

const assert = require('node:assert/strict');
const { test } = require('node:test');
const { describe } = require('./torture/figures');
const { torture } = require('./torture/report');

const skip = process.platform === 'win32' && 'there are no signals to stop a process with';

test('a history of 20 seconds with random faults breaks no rule', { skip }, async (t) => {
  const seed = 20240613;
  t.diagnostic(`seed ${seed}`);
  const { violations, figures, text } = await torture({ seed, seconds: 20, keys: 4, pace: 0.6 });
  assert.equal(violations.length, 0, text);
  // A run with few events proves nothing.
  const { acquisitions, faults, 'guarded writes': writes } = figures.counts;
  assert.ok(acquisitions >= 20 && faults >= 10 && writes >= 20, describe(figures));
  for (const line of describe(figures).split('\n')) t.diagnostic(line.trim());
});
