// `npm run check:version`: checks that package.json, Cargo.toml and both lock files have the version of CHANGELOG.md's newest
// entry. `--write` writes it there, `--notes` prints the entry, `--release v1.2.3` also requires a date and that tag.
'use strict';

const fs = require('node:fs');
const path = require('node:path');
const { parseArgs } = require('node:util');
const { root } = require('./setup/run');
const { newestEntry } = require('./release/changelog');

/** Each file, and the text before and after its version. */
const places = [
  ['package.json', /^( {2}"version": ")([^"]+)(",)$/m],
  ['package-lock.json', /^( {2}"version": ")([^"]+)(",)$/m],
  ['package-lock.json', /^( {4}"": \{\s+"name": "[^"]+",\s+"version": ")([^"]+)(",)$/m],
  ['Cargo.toml', /^(\[package\]\n(?:.+\n)*?version = ")([^"]+)(")$/m],
  ['Cargo.lock', /^(name = "redis-reservation"\nversion = ")([^"]+)(")$/m],
];

function main() {
  const { values } = parseArgs({
    options: {
      write: { type: 'boolean', default: false },
      notes: { type: 'boolean', default: false },
      release: { type: 'string' },
    },
  });
  const { version, date, notes } = newestEntry(read('CHANGELOG.md'));
  if (values.notes) {
    process.stdout.write(`${notes}\n`);
    return 0;
  }
  const wrong = [];
  for (const [file, pattern] of places) {
    const text = read(file);
    const found = pattern.exec(text);
    if (!found) throw new Error(`${file}: no version found`);
    if (found[2] === version) continue;
    if (values.write) write(file, text.replace(pattern, `$1${version}$3`));
    else wrong.push(`${file} says ${found[2]}, CHANGELOG.md says ${version}`);
  }
  if (values.release !== undefined) {
    if (values.release !== `v${version}`)
      wrong.push(`the tag is ${values.release}, CHANGELOG.md says ${version}`);
    if (date === null) wrong.push(`CHANGELOG.md calls ${version} unreleased: give it a date`);
  }
  for (const line of wrong) process.stderr.write(`${line}\n`);
  if (wrong.length === 0) process.stdout.write(`${version}, ${date || 'unreleased'}\n`);
  return wrong.length === 0 ? 0 : 1;
}

function read(file) {
  return fs.readFileSync(path.join(root, file), 'utf8');
}

function write(file, text) {
  fs.writeFileSync(path.join(root, file), text);
}

try {
  process.exitCode = main();
} catch (error) {
  process.stderr.write(`${error.message}\n`);
  process.exitCode = 2;
}
