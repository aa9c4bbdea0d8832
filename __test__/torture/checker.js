// Judges a history: a pure function from recorded events to violations.
'use strict';

const { modelOf } = require('./model');
const { answers, ends } = require('./rules/answers');
const { overlaps, certainty, truth } = require('./rules/exclusion');
const { forgotten, leftovers } = require('./rules/keys');
const { losses } = require('./rules/losses');
const { updates } = require('./rules/updates');

/** Tolerances, in ms. `patience`: the command_timeout of the call. */
const limits = {
  /** Between redis's clock and ours, and for redis's rounding. */
  clock: 3,
  /** For a running process to do what is due on a busy machine. */
  late: 1000,
  /** For a wait to end after its timeout: its first try may be under way, for as long as a command may take. */
  overtime: (patience) => patience + 1000,
  /** A waiter looks again after this time at the latest. */
  poll: 1200,
  /** For a worker to recover from a fault: a command may have to time out, then a connect
      (a second, in worker.js), then the longest back-off. */
  recovery: (patience) => patience + 1500,
  /** For the answer to a call that is no wait: three times both limits, since it may have to ask three times. */
  call: (patience) => 3 * (patience + 1000) + 1000,
};

const rules = [overlaps, certainty, truth, updates, losses, answers, leftovers, forgotten, ends];

/**
 * `history`: the events of run.js, ordered by time. Returns `{ violations, model }`, the earliest violation first. Each is
 * `{ rule, message, at, key, ops, workers }`.
 */
function check(history, overrides = {}) {
  const model = modelOf(history, { ...limits, ...overrides });
  const violations = rules.flatMap((rule) => rule(model));
  return { violations: violations.sort((one, other) => one.at - other.at), model };
}

module.exports = { check, limits };
