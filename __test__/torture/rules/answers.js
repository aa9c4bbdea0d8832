// Answers: one for each call, in time. Processes: they end as expected, without exceptions or output.
'use strict';

const { running, worker } = require('../model');
const { about } = require('./exclusion');

function answers(model) {
  const found = [];
  for (const call of model.calls.values()) {
    const report = (at, message) =>
      found.push({ rule: 'answers', message: `${call.kind} ${call.op} ${message}`, at, ...about(call) });
    if (call.answers.length > 1) report(call.answers[1].t, `was answered ${call.answers.length} times`);
    if (call.tooMany) report(call.answer.t, 'says that it freed more than was held');
    const limit = timeAllowed(call, model.limits);
    if (limit === null) continue;
    const { from, ms } = limit;
    const end = call.answer ? call.answer.t : Math.min(model.end, worker(model, call.w).gone);
    const took = end > from ? running(model, call.w, [from, end]) : 0;
    if (took > ms) {
      report(
        end,
        `${call.answer ? 'was answered' : 'has no answer'} ${Math.round(took)} ms after ${limit.what}, ${ms} are allowed`,
      );
    }
  }
  return found;
}

/** The start and the limit of the time for an answer. */
function timeAllowed({ kind, at, patience, timeout, abortedAt }, limits) {
  if (kind !== 'wait') return { from: at, ms: limits.call(patience), what: 'the call' };
  // An abort at the moment of the acquisition first gives the lock back.
  if (abortedAt !== null) return { from: abortedAt, ms: limits.call(patience), what: 'the abort' };
  if (timeout !== undefined)
    return { from: at + timeout, ms: limits.overtime(patience), what: 'its timeout' };
  return null;
}

function ends(model) {
  const found = [];
  const report = (name, at, message) =>
    found.push({ rule: 'ends', message: `${name} ${message}`, at, workers: [name] });
  for (const { t, w, message } of model.uncaught) report(w, t, `has thrown: ${message}`);
  for (const { t, w } of model.stuck) {
    const pending = [...model.calls.values()].filter((call) => call.w === w && !call.answer);
    report(
      w,
      t,
      `did not end; without an answer: ${pending.map(({ kind, op }) => `${kind} ${op}`).join(', ') || 'nothing'}`,
    );
  }
  for (const { name, exit, killed, dies, drained } of model.workers.values()) {
    if (!exit) continue;
    if (exit.stderr) report(name, exit.t, `printed: ${exit.stderr}`);
    const expected =
      ((killed || dies === 'kill') && exit.signal === 'SIGKILL') ||
      (dies === 'exit' && exit.code === 3) ||
      (drained !== null && exit.code === 0);
    if (!expected) report(name, exit.t, `ended with code ${exit.code}, signal ${exit.signal}`);
  }
  if (model.final && model.final.left.length > 0) {
    found.push({
      rule: 'ends',
      message: `left in redis at the end: ${model.final.left.join(', ')}`,
      at: model.final.t,
    });
  }
  return found;
}

module.exports = { answers, ends };
