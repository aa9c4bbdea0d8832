// Keeps the figures of a scenario: results/latest.json (committed: the newest figures of each scenario, with their machine),
// and one SVG for each scenario.
'use strict';

const fs = require('node:fs');
const path = require('node:path');
const { chart } = require('./chart');

const folder = path.join(__dirname, '..', 'results');
const file = path.join(folder, 'latest.json');

function keep(result, machine) {
  fs.mkdirSync(folder, { recursive: true });
  const all = read();
  // Each has its machine, since they may come from different runs.
  all[result.name] = { ...rounded(result), machine };
  fs.writeFileSync(file, text(all));
  fs.writeFileSync(path.join(folder, `${result.name}.svg`), chart(result));
}

function read() {
  try {
    return JSON.parse(fs.readFileSync(file, 'utf8'));
  } catch (error) {
    // A file that exists but cannot be read must not be overwritten.
    if (error.code === 'ENOENT') return {};
    throw error;
  }
}

/** JSON for readers and diffs: one contender a line, not one number. */
function text(all) {
  const blocks = Object.entries(all).map(([name, { rows, ...rest }]) => {
    const said = Object.entries(rest).filter(([, value]) => value !== undefined);
    const head = said.map(([key, value]) => `    ${JSON.stringify(key)}: ${JSON.stringify(value)}`);
    const lines = rows.map((row) => `      ${JSON.stringify(row)}`);
    return `  ${JSON.stringify(name)}: {\n${head.join(',\n')},\n    "rows": [\n${lines.join(',\n')}\n    ]\n  }`;
  });
  return `{\n${blocks.join(',\n')}\n}\n`;
}

/** Rounds to four digits, which is more than the precision of the figures. */
function rounded(value) {
  if (typeof value === 'number') return Number(value.toPrecision(4));
  if (Array.isArray(value)) return value.map(rounded);
  if (value === null || typeof value !== 'object') return value;
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, rounded(inner)]));
}

module.exports = { keep };
