// The matrix as a Markdown table: a row for each check, a column for each runtime, and below it the failures as seen.
'use strict';

/** `columns`: `[{ name, version, results: [{ check, ok, seen }] }]`. Lines of Markdown. */
function table(columns) {
  const checks = [...new Set(columns.flatMap(({ results }) => results.map(({ check }) => check)))];
  const rows = checks.map((check) => [check, ...columns.map(({ results }) => cell(results, check))]);
  const head = ['check', ...columns.map(({ name, version }) => `${name.replace(/-.*/, '')} ${version}`)];
  const line = (cells) => `| ${cells.join(' | ')} |`;
  return [line(head), line(head.map(() => '---')), ...rows.map(line), '', ...remarks(columns)].join('\n');
}

function cell(results, check) {
  const found = results.find((result) => result.check === check);
  if (!found) return '';
  return found.ok ? 'yes' : '**no**';
}

function remarks(columns) {
  return columns.flatMap(({ name, results }) =>
    results
      .filter(({ seen }) => seen)
      .map(({ check, ok, seen }) => `${name}, ${check}${ok ? '' : ' FAILS'}: ${seen}`),
  );
}

module.exports = { table };
