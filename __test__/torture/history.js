// Histories: merged from the files of the processes of a run, and printed for people.
'use strict';

const fs = require('node:fs');
const path = require('node:path');

/** All events, those in the files of `folder` and `others`, ordered by time. */
function readHistory(folder, others) {
  const events = [...others];
  for (const name of fs.readdirSync(folder)) {
    for (const text of fs.readFileSync(path.join(folder, name), 'utf8').split('\n')) {
      if (text === '') continue;
      try {
        events.push(JSON.parse(text));
      } catch {
        // The last line of a process that was killed during a write.
      }
    }
  }
  return events.sort((one, other) => one.t - other.t);
}

/**
 * The part of a history around a violation, as text: the events of its key and its processes, and all faults. The second
 * argument is a violation of the checker: `{ at, key, ops, workers }`.
 */
function excerpt(
  history,
  { at, key, ops = [], workers = [] },
  { before = 4000, after = 500, lines = 60 } = {},
) {
  const start = history.length > 0 ? history[0].t : 0;
  const isNear = ({ t }) => t >= at - before && t <= at + after;
  const about = new Set(ops);
  const whose = new Set(workers);
  const concerns = (event) => {
    if (event.e === 'fault' || event.e === 'theft' || event.e === 'monitor' || event.e === 'exit')
      return true;
    if (event.w === 'redis') return key === undefined || event.key === key || event.key === null;
    if (about.has(event.op) || (event.asks || []).some((op) => about.has(op))) return true;
    if (!whose.has(event.w)) return false;
    return ops.length === 0 || ['blocked', 'dies', 'uncaught', 'told'].includes(event.e);
  };
  const shown = history.filter((event) => concerns(event) && isNear(event));
  const cut = shown.length > lines ? shown.slice(-lines) : shown;
  const omitted = shown.length - cut.length;
  const head = omitted > 0 ? [`  … ${omitted} earlier ones left out`] : [];
  return [...head, ...cut.map((event) => line(event, start))].join('\n');
}

function line({ t, w, e, n: _n, ...rest }, start) {
  const fields = Object.entries(rest).map(([name, value]) => `${name}=${JSON.stringify(value)}`);
  return `  ${((t - start) / 1000).toFixed(4).padStart(9)} ${String(w).padEnd(6)} ${e} ${fields.join(' ')}`;
}

module.exports = { readHistory, excerpt };
