// A seeded random run of processes that lock, wait, release, abort and die on few keys. The checker of the torture run judges
// it, and two more rules judge the order of waiters.
'use strict';

const assert = require('node:assert/strict');
const { test } = require('node:test');
const { check } = require('../torture/checker');
const { excerpt } = require('../torture/history');
const { forgotten } = require('../torture/rules/keys');
const { randomRun } = require('./random-run');

/** How many times in a row a key is handed over within a process. */
const MOST_HAND_OVERS = 10;

/** Waits of one process for one key that were served out of order. */
function outOfOrder(model) {
  const queues = new Map();
  for (const call of model.calls.values()) {
    if (call.kind !== 'wait') continue;
    const queue = `${call.w} ${call.key}`;
    if (!queues.has(queue)) queues.set(queue, []);
    queues.get(queue).push(call);
  }
  const found = [];
  for (const calls of queues.values()) {
    const served = calls.filter(({ got }) => got).sort((one, other) => one.answer.t - other.answer.t);
    for (const [index, call] of served.entries()) {
      // Waits that were called later and answered earlier.
      const overtaking = served.slice(0, index).find(({ at }) => at > call.at);
      if (overtaking) found.push(`${overtaking.op} was served before ${call.op}, which waited longer`);
    }
  }
  return found;
}

/** The consecutive hand-overs of each key. */
function rows(model) {
  return [...model.timelines.values()].flatMap(({ tenures }) => {
    const found = [0];
    for (const { end } of tenures) {
      if (end === 'handed over') found[found.length - 1] += 1;
      else found.push(0);
    }
    return found;
  });
}

test('a random history of waits breaks no rule', async (t) => {
  const seed = 550123;
  t.diagnostic(`seed ${seed}`);
  const history = await randomRun(t, { seed, seconds: 12, processes: 4, instances: 10, keys: ['k0', 'k1'] });
  const { violations, model } = check(history);
  const [first] = violations;
  assert.equal(violations.length, 0, first && `${first.rule}: ${first.message}\n${excerpt(history, first)}`);
  // The checker allows a delay of one poll. In this run, redis always wakes a waiter before that.
  const late = forgotten({ ...model, limits: { ...model.limits, poll: 400, late: 400 } });
  assert.deepEqual(late, []);
  assert.deepEqual(outOfOrder(model), []);
  const longest = Math.max(...rows(model));
  assert.ok(longest <= MOST_HAND_OVERS, `${longest} hand-overs in a row`);

  // A run with few events proves nothing.
  const calls = [...model.calls.values()];
  const count = (fits) => calls.filter(fits).length;
  const numbers = {
    served: count(({ kind, got }) => kind === 'wait' && got),
    'timed out': count(
      ({ answer }) => answer && answer.error && answer.error.code === 'ERR_RESERVATION_TIMEOUT',
    ),
    aborted: count(({ abortedAt, got }) => abortedAt !== null && !got),
    locked: count(({ kind, got }) => kind === 'lock' && got),
    died: [...model.workers.values()].filter(({ killed, dies }) => killed || dies).length,
    'handed over': model.tenures.filter(({ end }) => end === 'handed over').length,
  };
  t.diagnostic(JSON.stringify(numbers));
  for (const [what, number] of Object.entries(numbers)) assert.ok(number >= 5, `${what}: ${number}`);
});
