// Keeps what a scenario found: results/latest.json (committed: the newest figures of each scenario, with the machine
// they come from), and one SVG for each scenario.
'use strict';

const fs = require('node:fs');
const path = require('node:path');
const { chart } = require('./chart');

const folder = path.join(__dirname, '..', 'results');
const file = path.join(folder, 'latest.json');

function keep(result, machine) {
  fs.mkdirSync(folder, { recursive: true });
  const all = read();
  // Each remembers its machine: they need not all come from one run.
  all[result.name] = { ...rounded(result), machine };
  fs.writeFileSync(file, text(all));
  fs.writeFileSync(path.join(folder, `${result.name}.svg`), chart(result));
}

function read() {
  try {
    return JSON.parse(fs.readFileSync(file, 'utf8'));
  } catch (error) {
    // What is there but cannot be read is not to be overwritten.
    if (error.code === 'ENOENT') return {};
    throw error;
  }
}

/** JSON to be read and compared: a contender a line, not a number a line. */
function text(all) {
  const blocks = Object.entries(all).map(([name, { rows, ...rest }]) => {
    const said = Object.entries(rest).filter(([, value]) => value !== undefined);
    const head = said.map(([key, value]) => `    ${JSON.stringify(key)}: ${JSON.stringify(value)}`);
    const lines = rows.map((row) => `      ${JSON.stringify(row)}`);
    return `  ${JSON.stringify(name)}: {\n${head.join(',\n')},\n    "rows": [\n${lines.join(',\n')}\n    ]\n  }`;
  });
  return `{\n${blocks.join(',\n')}\n}\n`;
}

/** Four digits are more than such figures are worth. */
function rounded(value) {
  if (typeof value === 'number') return Number(value.toPrecision(4));
  if (Array.isArray(value)) return value.map(rounded);
  if (value === null || typeof value !== 'object') return value;
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, rounded(inner)]));
}

module.exports = { keep };
