// Runs a torture run, judges it, and writes the report of `npm run torture` and of the tests.
'use strict';

const { check } = require('./checker');
const { figuresOf } = require('./figures');
const { excerpt } = require('./history');
const { run } = require('./run');

/** For so many rules, the first violation is printed with its part of the history. The others are counted. */
const MOST_SHOWN = 3;

/** Runs with the options of run.js: `{ history, violations, figures, text }`, `text` being the violations for people. */
async function torture(options) {
  const history = await run(options).catch((error) => {
    error.message += `\nThe run did not come to its end. Again: ${commandFor(options)}`;
    throw error;
  });
  const { violations, model } = check(history);
  return { history, violations, figures: figuresOf(model), text: offences(history, violations, options) };
}

function offences(history, violations, options) {
  const { seed } = options;
  if (violations.length === 0) return '';
  const firsts = violations.filter(
    ({ rule }, index) => violations.findIndex((one) => one.rule === rule) === index,
  );
  const shown = firsts.slice(0, MOST_SHOWN).map((violation) => {
    const { rule, message, at } = violation;
    return `${rule}: ${message}\n${excerpt(history, violation)}\n  (the offence is at ${((at - history[0].t) / 1000).toFixed(4)} s)`;
  });
  const counts = {};
  for (const { rule } of violations) counts[rule] = (counts[rule] || 0) + 1;
  const all = Object.entries(counts).map(([rule, count]) => `${count} × ${rule}`);
  return [`seed ${seed}: ${all.join(', ')}. Again: ${commandFor(options)}`, ...shown].join('\n\n');
}

/** The command that repeats a run with these options. */
function commandFor({ seed, seconds, ...options }) {
  const more = Object.entries(options).filter(([, value]) => value !== undefined);
  const flags = more.map(
    ([name, value]) => ` --${name} ${name === 'faults' ? value.join() || 'none' : value}`,
  );
  return `npm run torture -- --seed ${seed} --minutes ${+(seconds / 60).toFixed(3)}${flags.join('')}`;
}

module.exports = { torture };
