// Packs the package as users get it (`npm pack`): as a tarball, or unpacked. Made anew each time, in the caller's folder.
'use strict';

const { execFileSync } = require('node:child_process');
const fs = require('node:fs');
const path = require('node:path');
const { root } = require('./run');

/** Packs the checkout into `folder`. Returns the tarball's path. */
function pack(folder) {
  fs.mkdirSync(folder, { recursive: true });
  // --ignore-scripts: no script runs, so what is there now is packed.
  const args = ['pack', '--ignore-scripts', '--json', '--pack-destination', folder];
  const [{ filename }] = JSON.parse(npmAnswer(args));
  return path.join(folder, filename);
}

/** Packs the checkout and unpacks it into `folder`/node_modules/redis-reservation, without a package manager. */
function packInto(folder) {
  const tarball = pack(folder);
  const installed = path.join(folder, 'node_modules', 'redis-reservation');
  fs.rmSync(installed, { recursive: true, force: true });
  fs.mkdirSync(installed, { recursive: true });
  // Relative paths: some versions of tar take the C: of a path for a host.
  const place = ['-C', path.join('node_modules', 'redis-reservation'), '--strip-components=1'];
  execFileSync('tar', ['-xzf', path.basename(tarball), ...place], { cwd: folder });
  fs.rmSync(tarball);
  return installed;
}

function npmAnswer(args) {
  const started = process.env.npm_execpath;
  const options = { cwd: root, encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] };
  if (started && /npm-cli\.js$/.test(started)) {
    return execFileSync(process.execPath, [started, ...args], options);
  }
  return execFileSync('npm', args, { ...options, shell: process.platform === 'win32' });
}

module.exports = { pack, packInto };
