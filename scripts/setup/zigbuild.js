// Finds cargo-zigbuild and zig, which link a release against an old glibc. Neither is installed automatically; PyPI has both.
'use strict';

const path = require('node:path');
const { cache, ask } = require('./run');

/** A Python environment of the project, where you may install them. */
const own = path.join(cache, 'zig', 'bin');

/** The environment variables for `cargo zigbuild`, or null if it does not run. */
function findZigbuild() {
  const PATH = `${own}${path.delimiter}${process.env.PATH}`;
  const options = { env: { ...process.env, PATH } };
  if (ask('cargo-zigbuild', ['--version'], options) === null) return null;
  // cargo-zigbuild looks for zig as a program, then as a Python module.
  const zig = ask('zig', ['version'], options) || ask('python3', ['-m', 'ziglang', 'version'], options);
  return zig ? { PATH } : null;
}

function howToGetZigbuild() {
  return 'python3 -m venv .cache/zig && .cache/zig/bin/pip install cargo-zigbuild ziglang';
}

module.exports = { findZigbuild, howToGetZigbuild };
