// The table of one scenario for a terminal: at most 100 columns wide, with the aims below.
'use strict';

const WIDTH = 100;

/** A number with three significant digits. */
function format(value) {
  if (value === undefined || value === null || Number.isNaN(value)) return '–';
  const size = Math.abs(value);
  if (size >= 1e5) return `${Math.round(value / 1e3).toLocaleString('en')}k`;
  if (size >= 1000) return Math.round(value).toLocaleString('en');
  if (size >= 100) return value.toFixed(0);
  if (size >= 10) return value.toFixed(1);
  if (size === 0) return '0';
  return value.toFixed(2);
}

function printScenario(result, { write, colour }) {
  const bold = (text) => (colour ? `\x1b[1m${text}\x1b[22m` : text);
  const dim = (text) => (colour ? `\x1b[2m${text}\x1b[22m` : text);
  write(`\n${bold(`${result.name}: ${result.title}`)}\n`);
  write(
    dim(
      `medians of ${result.rounds} interleaved rounds (lowest–highest), ${Math.round(result.seconds)} s, redis ${result.redis}\n\n`,
    ),
  );
  const columns = columnsFor(result);
  const rows = result.rows.filter((row) => !row.failed);
  const cells = rows.map((row) => columns.map((column) => column.cell(row)));
  const heads = [0, 1].map((line) => columns.map((column) => column.head[line] || ''));
  const widths = columns.map((_, place) =>
    Math.max(...[...heads, ...cells].map((line) => line[place].length)),
  );
  const print = (line, style) => {
    const text = line.map((cell, place) => pad(cell, widths[place], place === 0)).join('  ');
    write(`${style(text.trimEnd())}\n`);
  };
  for (const head of heads) print(head, dim);
  for (const [place, line] of cells.entries()) print(line, rows[place].id === 'ours' ? bold : String);
  for (const { label, failed, note } of result.rows) {
    const remark = failed ? `left out: ${failed}` : note;
    if (remark) write(`${label}: ${remark}`.slice(0, WIDTH).concat('\n'));
  }
  if (result.aims.length > 0) write('\n');
  for (const aim of result.aims) write(`${sayAim(aim, colour)}\n`);
}

function columnsFor({ measures, rows }) {
  const columns = [{ head: ['', ''], cell: (row) => row.label + (row.safe ? '' : ' *') }];
  for (const [place, { key, label, unit, hidden, spread = place === 0 }] of measures.entries()) {
    if (hidden || !rows.some((row) => row.figures[key])) continue;
    columns.push({ head: [label, unit], cell: (row) => format(row.figures[key]?.median) });
    if (spread) {
      columns.push({ head: ['', ''], cell: ({ figures }) => (figures[key] ? range(figures[key]) : '') });
    }
    if (place === 0 && rows.some((row) => row.ratio !== undefined)) {
      columns.push({ head: ['× best', 'safe'], cell: (row) => format(row.ratio) });
    }
  }
  return columns;
}

function range({ low, high }) {
  return `(${format(low)}–${format(high)})`;
}

function pad(text, width, left) {
  return left ? text.padEnd(width) : text.padStart(width);
}

function sayAim({ text, value, met }, colour) {
  const paint = (code, words) => (colour ? `\x1b[${code}m${words}\x1b[39m` : words);
  if (value === undefined) return `  not measured  ${text}`;
  const verdict = met ? paint(32, 'reached') : paint(31, 'MISSED ');
  return `  ${verdict}  ${text}: ${format(value)}`;
}

module.exports = { printScenario, format };
