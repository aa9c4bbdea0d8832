// `prepack`: fails if there is no binary, since a package without one is useless. A binary of another platform is accepted.
'use strict';

const fs = require('node:fs');
const path = require('node:path');
const { root } = require('./setup/run');
const { targets, binaryName } = require('./release/targets');

function main() {
  const files = targets
    .map(({ platform }) => binaryName(platform))
    .filter((name) => fs.existsSync(path.join(root, name)));
  if (files.length === 0) {
    process.stderr.write(
      'There is no binary to pack: the package would be one that cannot be used.\n' +
        'Build it first: npm run build (it needs Rust, https://rustup.rs), then npm pack again.\n',
    );
    return 1;
  }
  // Only such a build exports this name (src/addon/counting_allocator.rs).
  for (const name of files.filter((file) =>
    fs.readFileSync(path.join(root, file)).includes('allocated_bytes'),
  )) {
    process.stderr.write(
      `${name} is a build for tests, larger and slower. For one to use: npm run build, then npm pack again.\n`,
    );
  }
  return 0;
}

process.exitCode = main();
