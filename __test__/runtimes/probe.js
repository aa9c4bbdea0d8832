// One process of the runtime matrix: runs the checks of one part (its argument), prints a line of JSON for each, and exits
// with 1 if one failed. In the syntax of 2019 and without a test framework, so that every runtime can run it.
'use strict';

const parts = {
  calls: () => require('./calls'),
  threads: () => require('./threads'),
  ends: () => require('./ends'),
};

const LIMIT = 15000; // ms; a check that takes longer counts as hung

function print(line) {
  console.log(JSON.stringify(line));
}

/** Runs the checks one after another, also after one that failed. */
async function run(checks) {
  for (const name of Object.keys(checks)) {
    try {
      print({ check: name, ok: true, seen: await limited(checks[name]()) });
    } catch (error) {
      process.exitCode = 1;
      print({ check: name, ok: false, seen: String((error && error.message) || error) });
    }
  }
}

function limited(promise) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`nothing within ${LIMIT} ms`)), LIMIT);
    promise.then(resolve, reject).then(() => clearTimeout(timer));
  });
}

const [part, name] = process.argv.slice(2);
// A part is a list of checks. Each of `ends` runs in its own process, whose end is the check.
if (part === 'ends') parts.ends()[name]();
else run(parts[part]());
