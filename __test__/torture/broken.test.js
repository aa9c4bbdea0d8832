// The torture run and its checker find broken locks.
'use strict';

const assert = require('node:assert/strict');
const path = require('node:path');
const { describe, test } = require('node:test');
const { torture } = require('./report');

/** The rules that a broken lock breaks, in short runs until all of `expected` are broken. */
async function findOut(name, expected, options) {
  const subject = path.join(__dirname, 'broken', `${name}.js`);
  const broken = new Set();
  for (let seed = 1; seed <= 6 && !expected.every((rule) => broken.has(rule)); seed += 1) {
    const { violations, text } = await torture({ seed, seconds: 4, keys: 1, pace: 0.2, subject, ...options });
    for (const { rule } of violations) broken.add(rule);
    if (violations.length > 0) assert.match(text, new RegExp(`^seed ${seed}: `));
  }
  for (const rule of expected) assert.ok(broken.has(rule), `"${rule}" is not among ${[...broken]}`);
}

const skip = process.platform === 'win32' && 'there are no signals to stop a process with';

describe('the checker finds', { concurrency: true, skip }, () => {
  test('a lock that never asks redis', () =>
    findOut('ignores', ['two at once', 'lost update', 'untrue answer'], {
      workers: 2,
      seconds: 2,
      faults: [],
    }));

  test('a lock that does not report its losses', () =>
    findOut('stubborn', ['held too long', 'losses'], { workers: 2, faults: ['delete', 'takeover', 'wipe'] }));

  test('a lock that compares no value and checks no result', () =>
    findOut('naive', ['held too long'], { workers: 2, faults: ['stop', 'delete'] }));
});
