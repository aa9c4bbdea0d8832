// Finds cargo-zigbuild and zig, which link a release against an old glibc. PyPI has both; neither is fetched unasked.
'use strict';

const path = require('node:path');
const { cache, ask } = require('./run');

/** A Python environment of the project's own, where a person may put them. */
const own = path.join(cache, 'zig', 'bin');

/** The environment to run `cargo zigbuild` in, or null where it does not run. */
function findZigbuild() {
  const PATH = `${own}${path.delimiter}${process.env.PATH}`;
  const options = { env: { ...process.env, PATH } };
  if (ask('cargo-zigbuild', ['--version'], options) === null) return null;
  // Where cargo-zigbuild looks for it: as a program, or as a module of Python.
  const zig = ask('zig', ['version'], options) || ask('python3', ['-m', 'ziglang', 'version'], options);
  return zig ? { PATH } : null;
}

function howToGetZigbuild() {
  return 'python3 -m venv .cache/zig && .cache/zig/bin/pip install cargo-zigbuild ziglang';
}

module.exports = { findZigbuild, howToGetZigbuild };
