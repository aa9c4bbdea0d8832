// `npm run check:binary`: whether binaries could be published: those of the checkout, or those that are named. `--floor 2.34`
// allows another glibc than a release's, e.g. for a build without zig.
'use strict';

const fs = require('node:fs');
const path = require('node:path');
const { parseArgs } = require('node:util');
const { root } = require('./setup/run');
const { checkBinary, FLOOR } = require('./binary/check');

function main() {
  const { values, positionals } = parseArgs({
    options: { floor: { type: 'string', default: FLOOR } },
    allowPositionals: true,
  });
  const files = positionals.length > 0 ? positionals : builtHere();
  if (files.length === 0) throw new Error('there is no .node file to check: run `npm run build`');
  let failed = 0;
  for (const file of files) {
    const { size, glibc, complaints } = checkBinary(file, { floor: values.floor });
    const facts = [`${(size / 1024 / 1024).toFixed(2)} MB`, glibc && `glibc ${glibc} or newer`];
    process.stdout.write(`${path.basename(file)}: ${facts.filter(Boolean).join(', ')}\n`);
    for (const complaint of complaints) process.stdout.write(`  FAILS: ${complaint}\n`);
    failed += complaints.length > 0 ? 1 : 0;
  }
  process.stdout.write(`${files.length - failed} passed, ${failed} failed\n`);
  return failed === 0 ? 0 : 1;
}

function builtHere() {
  const names = fs.readdirSync(root).filter((name) => name.endsWith('.node'));
  return names.map((name) => path.join(root, name));
}

try {
  process.exitCode = main();
} catch (error) {
  process.stderr.write(`${error.message}\n`);
  process.exitCode = 2;
}
