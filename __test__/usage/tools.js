// Bundlers, test runners and package managers. npm downloads each once into .cache/usage: they are too many, too large and
// change too often to be dependencies of the project.
'use strict';

const fs = require('node:fs');
const path = require('node:path');
const { cache, npm, say } = require('../../scripts/setup/run');

/** The tested major versions. The newest of each is downloaded. */
const tools = {
  esbuild: ['esbuild@0.28'],
  webpack: ['webpack@5', 'node-loader@2'],
  rollup: ['rollup@4', '@rollup/plugin-commonjs@29', '@rollup/plugin-node-resolve@16'],
  jest: ['jest@30'],
  vitest: ['vitest@5'],
  pnpm: ['pnpm@10'],
  yarn: ['@yarnpkg/cli-dist@4'],
};

/** The node_modules folder of a tool. Downloads it if necessary. */
function provideTool(name) {
  const prefix = path.join(cache, 'usage', name);
  const done = path.join(prefix, 'fetched');
  const wanted = tools[name].join(' ');
  if (!fs.existsSync(done) || fs.readFileSync(done, 'utf8') !== wanted) {
    say(`fetching ${wanted}`);
    fs.mkdirSync(prefix, { recursive: true });
    const quiet = ['--no-save', '--no-package-lock', '--ignore-scripts', '--loglevel=error'];
    if (!npm(['install', '--prefix', prefix, ...quiet, ...tools[name]])) {
      throw new Error(`npm could not install ${wanted}; what it said stands above.`);
    }
    fs.writeFileSync(done, wanted);
  }
  return path.join(prefix, 'node_modules');
}

/** The exports of a tool's package. */
function requireTool(name, file = name) {
  return require(path.join(provideTool(name), file));
}

/** Makes a tool's packages available to a project by name. */
function linkTool(name, folder) {
  const source = provideTool(name);
  for (const entry of fs.readdirSync(source)) {
    const target = path.join(folder, 'node_modules', entry);
    if (!entry.startsWith('.') && !fs.existsSync(target)) fs.symlinkSync(path.join(source, entry), target);
  }
}

module.exports = { provideTool, requireTool, linkTool };
