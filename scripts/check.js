// `npm run check`: linters, formats, types and the documents' links, as many at once as there are cores. Prints one line for
// each, and the output of those that fail. `npm run check -- types links` runs only these.
'use strict';

const { spawn } = require('node:child_process');
const os = require('node:os');
const { root } = require('./setup/run');

// The longest first. Programs are called from node_modules: `npx` would look for the package each time.
const checks = [
  [
    'clippy',
    'cargo',
    ['clippy', '--profile', 'fast', '--all-targets', '--all-features', '--quiet', '--', '-D', 'warnings'],
  ],
  ['eslint', process.execPath, [tool('eslint/bin/eslint.js'), '.']],
  ['prettier', process.execPath, [tool('prettier/bin/prettier.cjs'), '--check', '--log-level=warn', '.']],
  ['types', process.execPath, [tool('typescript/bin/tsc'), '--project', '__test__/types']],
  [
    'types, without others',
    process.execPath,
    [tool('typescript/bin/tsc'), '--project', '__test__/types/bare'],
  ],
  ['rustfmt', 'cargo', ['fmt', '--all', '--check']],
  ['links', process.execPath, ['scripts/links.js']],
  ['arrows', process.execPath, ['--test', '__test__/arrows.test.js']],
];

function tool(file) {
  return `node_modules/${file}`;
}

/** Runs one check, and prints its line; if it fails, also its output. Returns whether it succeeded. */
function check([name, program, words]) {
  const start = process.hrtime.bigint();
  return new Promise((resolve) => {
    const child = spawn(program, words, { cwd: root, stdio: ['ignore', 'pipe', 'pipe'] });
    let said = '';
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8').on('data', (text) => {
        said += text;
      });
    }
    const conclude = (isGood) => {
      const seconds = (Number(process.hrtime.bigint() - start) / 1e9).toFixed(1);
      process.stdout.write(`${isGood ? 'ok    ' : 'FAILED'}  ${seconds.padStart(5)} s  ${name}\n`);
      if (!isGood) process.stdout.write(`${said.trimEnd()}\n`);
      resolve(isGood);
    };
    child.once('error', (error) => {
      said += `${program}: ${error.message}\n`;
      if (child.pid === undefined) conclude(false); // it was not started, so nothing closes
    });
    child.once('close', (code) => child.pid === undefined || conclude(code === 0));
  });
}

async function main(names) {
  const chosen = checks.filter(([name]) => names.length === 0 || names.some((word) => name.startsWith(word)));
  if (chosen.length === 0) {
    process.stderr.write(`There is no such check; there are: ${checks.map(([name]) => name).join('; ')}.\n`);
    return 1;
  }
  const results = [];
  const waiting = chosen.slice();
  const work = async () => {
    while (waiting.length > 0) results.push(await check(waiting.shift()));
  };
  await Promise.all(Array.from({ length: Math.max(2, os.cpus().length) }, work));
  return results.every(Boolean) ? 0 : 1;
}

main(process.argv.slice(2)).then((code) => {
  process.exitCode = code;
});
