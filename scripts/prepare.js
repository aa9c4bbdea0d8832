// `prepare`: builds the native part if there is none; an existing one stays as it is. Package managers run it for a checkout
// and for a git dependency, never for a package from a registry.
'use strict';

const fs = require('node:fs');
const path = require('node:path');
const { root, run } = require('./setup/run');
const { binaryName, findCargo } = require('./setup/native');

function main() {
  if (fs.existsSync(path.join(root, binaryName()))) return 0;
  if (!findCargo()) {
    process.stderr.write(
      'redis-reservation, from its sources, has to build its native part, and no `cargo` was found.\n' +
        'Install Rust 1.88 or newer with rustup (https://rustup.rs), then run the command again.\n' +
        'In a checkout, where you need no more than its npm packages: npm ci --ignore-scripts\n',
    );
    return 1;
  }
  process.stdout.write('redis-reservation: building the native part (the first time takes some minutes)\n');
  return run(process.execPath, [path.join(__dirname, 'build.js')]) ? 0 : 1;
}

process.exitCode = main();
