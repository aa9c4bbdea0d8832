// One process of the runtime matrix: runs the checks of one part (its argument), prints a line of JSON for each, and ends
// with 1 if one failed. In syntax of 2019 and without a test framework, so that every runtime can read it.
'use strict';

const parts = {
  calls: () => require('./calls'),
  threads: () => require('./threads'),
  ends: () => require('./ends'),
};

const LIMIT = 15000; // ms; a check that takes longer hangs

function print(line) {
  console.log(JSON.stringify(line));
}

/** Runs the checks one after another; whatever one of them does, the next has its turn. */
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
// A part is a list of checks; one of `ends` is a process of its own, judged by how it ends.
if (part === 'ends') parts.ends()[name]();
else run(parts[part]());
