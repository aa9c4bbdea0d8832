// Publishes the packages of a release, the main package last, so that whoever installs it finds the others. A package that is
// published already is skipped, so that a release that broke off can be run again. `--dry-run` asks npm what it would do.
'use strict';

const { spawnSync } = require('node:child_process');
const fs = require('node:fs');
const path = require('node:path');

function main([release, ...options]) {
  if (!release) throw new Error('node scripts/release/publish.js FOLDER [--dry-run]');
  const folders = inOrder(release);
  for (const folder of folders) {
    const { name, version } = manifestOf(folder);
    const isThere = npm(['view', `${name}@${version}`, 'version'], folder, 'pipe').stdout.trim() === version;
    if (isThere) {
      process.stdout.write(`${name} ${version} is published already\n`);
      continue;
    }
    // A version such as 1.1.0-beta.1 must not become `latest`.
    const tag = version.includes('-') ? 'next' : 'latest';
    // npm takes provenance only from a workflow that can prove its identity.
    const provenance = options.includes('--dry-run') ? [] : ['--provenance'];
    const args = ['publish', '--access', 'public', '--tag', tag, ...provenance, ...options];
    if (npm(args, folder, 'inherit').status !== 0) throw new Error(`${name} ${version} was not published`);
  }
}

/** The packages' folders, the main package last. */
function inOrder(release) {
  const folders = fs.readdirSync(release).map((name) => path.join(release, name));
  const isMain = (folder) => Boolean(manifestOf(folder).optionalDependencies);
  const mains = folders.filter(isMain);
  if (mains.length !== 1) throw new Error(`${release} has ${mains.length} main packages`);
  const [{ optionalDependencies }] = mains.map(manifestOf);
  const others = folders.filter((folder) => !isMain(folder));
  const missing = Object.keys(optionalDependencies).filter(
    (name) => !others.some((one) => path.basename(one) === name),
  );
  if (missing.length > 0) throw new Error(`${release} lacks ${missing.join(', ')}`);
  return [...others, ...mains];
}

function manifestOf(folder) {
  return JSON.parse(fs.readFileSync(path.join(folder, 'package.json'), 'utf8'));
}

function npm(args, cwd, output) {
  return spawnSync('npm', args, { cwd, stdio: ['ignore', output, output], encoding: 'utf8' });
}

try {
  main(process.argv.slice(2));
} catch (error) {
  process.stderr.write(`${error.message}\n`);
  process.exitCode = 1;
}
