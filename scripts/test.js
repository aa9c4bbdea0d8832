// `npm test`: the set-up, then the plain Rust core (cargo test), then the JS tests against real
// servers. `npm test -- lock release` runs only the test files whose names contain those words.
'use strict';

const fs = require('node:fs');
const path = require('node:path');
const { setup } = require('./setup');
const { root, run } = require('./setup/run');

// Tests that measure times or fill a core run alone.
const quiet = [
  'heartbeat.test.js',
  'original.test.js',
  'torture.test.js',
  'waiting/price.test.js',
  'faults/bounds.test.js',
  'faults/loop.test.js',
];

// The others mostly wait for redis and timers: four at once use half of two cores.
const AT_ONCE = 4;

const testFolder = path.join(root, '__test__');

// Not these: sentinels and clusters are slow to fail over. `npm run test:topologies` and the CI run them.
const elsewhere = path.join(testFolder, 'topologies');

function main(filters) {
  const environment = setup();
  const files = findTests().filter((file) => matches(file, filters));
  if (filters.length > 0 && files.length === 0) {
    process.stderr.write(`No test file in __test__ matches ${filters.join(' or ')}.\n`);
    return 1;
  }
  const isQuiet = (file) => quiet.includes(path.relative(testFolder, file));
  const parts = [
    () => filters.length > 0 || testCore(environment),
    () =>
      testFiles(
        files.filter((file) => !isQuiet(file)),
        AT_ONCE,
        environment,
      ),
    () => testFiles(files.filter(isQuiet), 1, environment),
  ];
  // Every part runs, so that one failure does not hide another.
  const results = parts.map((part) => part());
  return results.every(Boolean) ? 0 : 1;
}

function testCore(environment) {
  // With the same features as the binary of the JS tests: otherwise each build would undo the other's.
  return run('cargo', ['test', '--profile', 'fast', '--all-features'], { env: environment });
}

function testFiles(files, concurrency, environment) {
  if (files.length === 0) return true;
  const options = [
    '--test',
    '--test-reporter=spec',
    `--test-concurrency=${concurrency}`,
    // A test that hangs fails by name, instead of a build that never ends.
    '--test-timeout=240000',
  ];
  return run(process.execPath, [...options, ...files], { env: environment });
}

/** Every *.test.js below a folder, in order of name. */
function findTests(folder = testFolder) {
  const entries = fs.readdirSync(folder, { withFileTypes: true });
  return entries
    .flatMap((entry) => {
      const full = path.join(folder, entry.name);
      if (entry.isDirectory()) return full === elsewhere ? [] : findTests(full);
      return entry.name.endsWith('.test.js') ? [full] : [];
    })
    .sort();
}

/** A filter is a part of a file's name, or a path. */
function matches(file, filters) {
  const relative = path.relative(root, file);
  return filters.length === 0 || filters.some((filter) => relative.includes(path.normalize(filter)));
}

module.exports = { findTests, matches, testFiles, elsewhere };

if (require.main === module) process.exitCode = main(process.argv.slice(2));
