// `npm run test:usage`: tests the package in scratch projects, with the tools that its users have. `npm run test:usage --
// bundlers` runs only files whose names contain one of the words.
'use strict';

const fs = require('node:fs');
const path = require('node:path');
const { setup } = require('./setup');
const { root, run } = require('./setup/run');

const folder = path.join(root, '__test__', 'usage');

function main(words) {
  const env = setup();
  // Those that download nothing are *.test.js; `npm test` runs these as well.
  const files = fs
    .readdirSync(folder)
    .filter((name) => /\.(test|usage)\.js$/.test(name))
    .filter((name) => words.length === 0 || words.some((word) => name.includes(word)))
    .map((name) => path.join(folder, name));
  if (files.length === 0) throw new Error(`no file in ${folder} is named for ${words.join(' or ')}`);
  // One at a time: bundlers and package managers use all cores themselves.
  const options = ['--test', '--test-reporter=spec', '--test-concurrency=1'];
  return run(process.execPath, [...options, ...files], { env }) ? 0 : 1;
}

process.exitCode = main(process.argv.slice(2));
