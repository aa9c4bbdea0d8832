// A history in the form that the rules need: calls, holds, processes, faults, redis's side. Pure.
'use strict';

const { outside, longestPiece } = require('./spans');
const { tenuresOf } = require('./tenures');

/** `limits`: see checker.js. */
function modelOf(history, limits) {
  const model = {
    ...{ history, limits },
    calls: new Map(), // op -> { op, w, kind, key, ttl, patience, renews, timeout, asks, at, answers, answer, abortedAt, got }
    holds: [], // what callers have acquired, by their answers
    sections: new Map(), // section -> { op, w, key, mode, read, write, written, failed }
    workers: new Map(), // name -> { name, slot, up, gone, drained, exit, stops, blocks, dies, killed }
    faults: [], // { name, scope, slot, worker, from, to }
    thefts: [], // { kind, key, from, to }
    uncaught: [],
    stuck: [],
    strangers: [], // reported losses of locks that nobody had acquired
    start: history.length > 0 ? history[0].t : 0,
    end: history.length > 0 ? history[history.length - 1].t : 0,
    final: null,
  };
  for (const event of history) readers[event.e]?.(model, event);
  for (const call of model.calls.values()) settleCall(call);
  collectHolds(model);
  collectOutcomes(model);
  const redis = history.filter(({ w }) => w === 'redis').sort((one, other) => one.n - other.n);
  model.timelines = tenuresOf(redis, model.holds.map(({ val }) => val).filter(Boolean));
  model.tenures = [...model.timelines.values()].flatMap(({ tenures }) => tenures);
  const byValue = new Map();
  for (const tenure of model.tenures) {
    if (!byValue.has(tenure.val)) byValue.set(tenure.val, []);
    byValue.get(tenure.val).push(tenure);
  }
  for (const hold of model.holds) hold.tenures = byValue.get(hold.val) || [];
  return model;
}

const readers = {
  call(model, { op, w, t, ...event }) {
    model.calls.set(op, { ...event, op, w, at: t, answers: [], abortedAt: null });
  },
  answer(model, { op, ...event }) {
    const call = model.calls.get(op);
    if (call) call.answers.push(event);
  },
  abort(model, { op, t }) {
    const call = model.calls.get(op);
    if (call) call.abortedAt = t;
  },
  held(model, { op, t, held }) {
    const call = model.calls.get(op);
    if (call) (call.samples ??= []).push({ t, held });
  },
  told(model, event) {
    (model.told ??= []).push(event);
  },
  read: keepSection,
  write: keepSection,
  written: keepSection,
  'write-failed': keepSection,
  uncaught(model, { t, w, message }) {
    model.uncaught.push({ t, w, message });
  },
  up(model, { t, w }) {
    worker(model, w).up = t;
  },
  blocked(model, { t, w, from }) {
    worker(model, w).blocks.push([from, t]);
  },
  dies(model, { t, w, how }) {
    Object.assign(worker(model, w), { dies: how, gone: Math.min(t, worker(model, w).gone) });
  },
  drained(model, { t, w }) {
    worker(model, w).drained = t;
  },
  exit(model, { t, worker: name, ...exit }) {
    const one = worker(model, name);
    Object.assign(one, { exit: { t, ...exit }, gone: Math.min(t, one.gone) });
  },
  stuck(model, { t, worker: name }) {
    model.stuck.push({ t, w: name });
  },
  fault(model, { t, state, id, name, scope, slot, worker: name_of_worker }) {
    if (state === 'begins') {
      model.faults.push({ id, name, scope, slot, worker: name_of_worker, from: t, to: Infinity });
      if (name === 'kill') {
        const one = worker(model, name_of_worker);
        Object.assign(one, { killed: true, gone: Math.min(t, one.gone) });
      }
      return;
    }
    const fault = model.faults.find((one) => one.id === id);
    fault.to = t;
    if (name === 'stop') worker(model, name_of_worker).stops.push([fault.from, t]);
  },
  theft(model, { t, from, kind, key }) {
    model.thefts.push({ kind, key, from, to: t });
  },
  final(model, { t, left }) {
    model.final = { t, left };
  },
};

function worker(model, name) {
  if (!model.workers.has(name)) {
    const slot = name.replace(/g\d+$/, '');
    model.workers.set(name, {
      name,
      slot,
      up: 0,
      gone: Infinity,
      drained: null,
      exit: null,
      stops: [],
      blocks: [],
    });
  }
  return model.workers.get(name);
}

function keepSection(model, { section, e, ...event }) {
  if (!model.sections.has(section)) model.sections.set(section, { section });
  const one = model.sections.get(section);
  if (event.key !== undefined)
    Object.assign(one, { op: event.op, w: event.w, key: event.key, mode: event.mode });
  one[e === 'write-failed' ? 'failed' : e] = event;
}

function settleCall(call) {
  call.answer = call.answers[0] || null;
  const { answer, kind } = call;
  call.got = Boolean(
    answer && !answer.error && (kind === 'wait' || (kind === 'lock' && answer.value === true)),
  );
  call.samples ??= [];
  // By default a third of the ttl, as in the package.
  call.patience ??= call.ttl / 3;
}

function collectHolds(model) {
  const told = model.told || [];
  for (const call of model.calls.values()) {
    if (!call.got) continue;
    const { op, w, key, ttl, renews, answer, samples } = call;
    const seen = samples.filter(({ held }) => held).map(({ t }) => t);
    model.holds.push({
      ...{
        op,
        w,
        key,
        ttl,
        renews,
        call,
        samples,
        val: answer.val ?? told.find(({ val }) => String(val).startsWith(`${op}-`))?.val,
        from: answer.t,
      },
      ...{
        releases: [],
        told: [],
        outcomes: [],
        lastCertain: seen.length > 0 ? seen[seen.length - 1] : null,
      },
    });
  }
}

/** The end of each hold: what reported its loss, and the answer of each release. */
function collectOutcomes(model) {
  const holdOf = new Map(model.holds.map((hold) => [hold.op, hold]));
  const byValue = new Map(model.holds.map((hold) => [hold.val, hold]));
  for (const event of model.told || []) {
    const hold = byValue.get(event.val);
    if (hold) hold.told.push({ t: event.t, by: event.by });
    else model.strangers.push(event);
  }
  const asking = [...model.calls.values()].filter(({ asks }) => asks);
  // Losses first: a release counts only keys that were not lost.
  for (const call of asking) {
    for (const hold of call.asks.map((op) => holdOf.get(op)).filter(Boolean)) {
      if (call.kind === 'release') hold.releases.push(call);
      const { error, t } = call.answer || {};
      if (error && (error.lost || []).includes(`reservation-${hold.key}`))
        hold.told.push({ t, by: call.kind });
    }
  }
  for (const call of asking) if (call.kind === 'release' && call.answer) releaseOutcomes(call, holdOf);
}

function releaseOutcomes(call, holdOf) {
  const { error, value, t } = call.answer;
  const holds = call.asks.map((op) => holdOf.get(op)).filter(Boolean);
  const failed = error && (error.failed || (error.lost ? [] : holds.map(({ key }) => `reservation-${key}`)));
  const open = [];
  for (const hold of holds) {
    if (failed && failed.includes(`reservation-${hold.key}`)) hold.outcomes.push({ t, what: 'failed' });
    else if (!hold.told.some((told) => told.t <= t)) open.push(hold);
  }
  const count = error ? error.released || 0 : value;
  const what = count === open.length && count > 0 ? 'released' : count === 0 ? 'nothing' : 'some';
  for (const hold of open) hold.outcomes.push({ t, what });
  call.tooMany = count > open.length;
}

/** The spans of faults of this worker, its link or redis, each with `recovery` after it. */
function troubles(model, name, recovery = 0) {
  const { slot } = worker(model, name);
  return model.faults
    .filter(
      (fault) =>
        fault.scope === 'server' || fault.worker === name || (fault.scope === 'link' && fault.slot === slot),
    )
    .map(({ from, to }) => [from, to + recovery]);
}

/** The longest part of a span without a fault for this worker, or null. */
function longestWell(model, name, [from, to], recovery) {
  const end = Math.min(to, worker(model, name).gone);
  return end > from ? longestPiece([from, end], troubles(model, name, recovery)) : null;
}

/** How much of a span the JavaScript of this worker could run. */
function running(model, name, span) {
  const { stops, blocks } = worker(model, name);
  return outside(span, [...stops, ...blocks]);
}

function robbed(model, key, [from, to]) {
  return model.thefts.some(
    (theft) => (theft.key === null || theft.key === key) && theft.to >= from && theft.from <= to,
  );
}

module.exports = { modelOf, worker, longestWell, running, robbed };
