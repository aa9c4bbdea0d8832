// Writes the figures into docs/performance.md, between its two marks: the aims of each scenario with the results, the machine,
// and the charts. `npm run bench` does so after each run that is kept.
'use strict';

const fs = require('node:fs');
const path = require('node:path');
const { names, scenario } = require('../scenarios');

const root = path.join(__dirname, '..', '..');
const page = path.join(root, 'docs', 'performance.md');
const results = path.join(root, 'benches', 'results', 'latest.json');
const marks = ['<!-- figures -->', '<!-- end of figures -->'];

/** Rewrites the page's figures from results/latest.json. */
function report() {
  const text = fs.readFileSync(page, 'utf8');
  const [begin, end] = marks.map((mark) => text.indexOf(mark));
  if (begin === -1 || end < begin) throw new Error(`docs/performance.md must hold ${marks.join(' and ')}`);
  const figures = chapter(JSON.parse(fs.readFileSync(results, 'utf8')));
  fs.writeFileSync(page, `${text.slice(0, begin)}${marks[0]}\n\n${figures}\n\n${text.slice(end)}`);
}

function chapter(all) {
  const known = names.filter((name) => all[name] !== undefined);
  const rows = known.flatMap((name) => all[name].aims.map((aim) => [all[name].title, aim]));
  const table = rows.map(([title, { text, value, met }], index) => {
    const first = index === 0 || rows[index - 1][0] !== title;
    return `| ${first ? title : ''} | ${text} | ${shown(value)} | ${met ? 'yes' : '**no**'} |`;
  });
  const charts = known.map((name) => `![${scenario(name).title}](../benches/results/${name}.svg)`);
  return [
    machines(known.map((name) => all[name])),
    ['| scenario | figure (aim) | found | reached |', '| --- | --- | --- | --- |', ...table].join('\n'),
    ...charts,
  ].join('\n\n');
}

/** The machine and the date of each scenario, which may come from different runs. */
function machines(measured) {
  const said = measured.map(({ machine, redis }) => {
    const { processor, cores, memory, system, node } = machine;
    return `${processor}, ${cores} cores, ${memory}, ${system}, Node ${node}, redis ${redis}`;
  });
  const days = [...new Set(measured.map(({ machine }) => machine.date.slice(0, 10)))].sort();
  const when = days.length === 1 ? days[0] : `${days[0]} to ${days[days.length - 1]}`;
  return `Measured on ${[...new Set(said)].join('; and on ')}, ${when}.`;
}

function shown(value) {
  if (value === null || value === undefined) return '–';
  return typeof value === 'number' ? Number(value.toPrecision(3)).toLocaleString('en') : String(value);
}

module.exports = { report };
