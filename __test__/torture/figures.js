// The worst numbers of a run, and how much has happened in it.
'use strict';

const { longestWell, running } = require('./model');
const { gapsBetween } = require('./rules/keys');
const { lateness } = require('./rules/losses');

/** Numbers of a model (see model.js), times in ms. `worse` combines those of two runs. */
function figuresOf(model) {
  const figures = { counts: counts(model), worst: {}, faults: {} };
  const worst = (name, value, unit = 'ms') => {
    const known = figures.worst[name];
    if (value !== null && value >= 0 && (!known || value > known.value))
      figures.worst[name] = { value, unit };
  };
  for (const hold of model.holds) {
    const late = lateness(model, hold);
    if (late && late.told) worst('a loss was reported after the deadline, at most', late.ms);
    for (const outage of outagesSurvived(model, hold)) {
      worst(`longest outage with a lock kept: ${outage.scope}`, outage.to - outage.from);
    }
  }
  for (const { kind, w, answer, at } of model.calls.values()) {
    if (answer && kind !== 'wait') worst(`slowest answer: ${kind}`, running(model, w, [at, answer.t]));
  }
  for (const [key, { tenures }] of model.timelines) {
    for (const gap of gapsBetween(tenures, model))
      worst('longest time free while waited for, all well', waitedFor(model, key, gap));
  }
  for (const ms of handOffs(model)) worst('slowest hand-off to another process, all well', ms);
  for (const { name } of model.faults) figures.faults[name] = (figures.faults[name] || 0) + 1;
  return figures;
}

function counts(model) {
  const { holds, tenures, calls, sections } = model;
  const written = [...sections.values()].filter((section) => section.written);
  const succession = successions(model);
  return {
    calls: calls.size,
    acquisitions: holds.length,
    'of them waited for': holds.filter(({ call }) => call.kind === 'wait').length,
    'hand-offs inside a process': tenures.filter(({ end }) => end === 'handed over').length,
    'hand-offs to another process': succession.length,
    renewals: tenures.reduce((sum, { renewals }) => sum + renewals.length, 0),
    'losses reported': holds.filter(({ told }) => told.length > 0).length,
    'keys set for calls that did not get them': tenures.filter(
      ({ op, val }) => op && !holds.some((hold) => hold.val === val),
    ).length,
    'guarded writes': written.filter(({ written: { done } }) => done).length,
    'writes that the fence refused': written.filter(({ written: { done } }) => !done).length,
    processes: model.workers.size,
    faults: model.faults.length,
  };
}

/** The faults that affected a hold, and began and ended while it was certain. */
function outagesSurvived(model, { w, from, lastCertain }) {
  const { slot } = model.workers.get(w) || {};
  const instant = ['forget scripts', 'delete', 'takeover', 'flush', 'wipe'];
  return model.faults.filter(
    (fault) =>
      !instant.includes(fault.name) &&
      (fault.scope === 'server' || fault.worker === w || (fault.scope === 'link' && fault.slot === slot)) &&
      fault.from >= from &&
      fault.to <= lastCertain,
  );
}

/** Two consecutive tenures of one key, the second by another process. */
function successions(model) {
  const found = [];
  for (const { tenures } of model.timelines.values()) {
    for (let index = 1; index < tenures.length; index += 1) {
      const [first, second] = [tenures[index - 1], tenures[index]].map((one) => ({
        ...one,
        call: model.calls.get(one.op),
      }));
      if (first.call && second.call && first.call.w !== second.call.w) found.push({ first, second });
    }
  }
  return found;
}

/** From the release to the acquisition by the next holder, if that was already waiting. */
function handOffs(model) {
  return successions(model)
    .filter(
      ({ first, second }) =>
        first.end === 'freed' && second.call.kind === 'wait' && second.call.at < first.until,
    )
    .filter(({ first, second }) => {
      const span = [first.until - 500, second.from];
      const well = longestWell(model, second.call.w, span, 0);
      return well && well[0] === span[0] && well[1] === span[1];
    })
    .map(({ first, second }) => second.from - first.until);
}

function waitedFor(model, key, [from, to]) {
  let longest = null;
  for (const { kind, key: wanted, w, at, answer, abortedAt, patience } of model.calls.values()) {
    if (kind !== 'wait' || wanted !== key || at >= to) continue;
    const span = [Math.max(at, from), Math.min(to, answer ? answer.t : model.end, abortedAt ?? Infinity)];
    const well = span[1] > span[0] ? longestWell(model, w, span, model.limits.recovery(patience)) : null;
    if (well) longest = Math.max(longest || 0, well[1] - well[0]);
  }
  return longest;
}

/** The figures of two runs combined. */
function worse(one, other) {
  if (!one) return other;
  const sum = (name) => {
    const total = { ...one[name] };
    for (const [key, count] of Object.entries(other[name])) total[key] = (total[key] || 0) + count;
    return total;
  };
  const worst = { ...one.worst };
  for (const [name, figure] of Object.entries(other.worst)) {
    if (!worst[name] || figure.value > worst[name].value) worst[name] = figure;
  }
  return { counts: sum('counts'), faults: sum('faults'), worst };
}

function describe({ counts: numbers, worst, faults }) {
  const rows = [
    ...Object.entries(numbers).map(([name, count]) => [name, String(count)]),
    ...Object.entries(worst).map(([name, { value, unit }]) => [
      name,
      `${value < 10 ? value.toFixed(1) : Math.round(value)} ${unit}`,
    ]),
  ];
  const width = Math.max(...rows.map(([name]) => name.length));
  const lines = rows.map(([name, value]) => `  ${name.padEnd(width)}  ${value}`);
  const inflicted = Object.entries(faults)
    .sort((a, b) => b[1] - a[1])
    .map(([name, count]) => `${name} ${count}`);
  return [...lines, `  faults: ${inflicted.join(', ')}`].join('\n');
}

module.exports = { figuresOf, worse, describe };
