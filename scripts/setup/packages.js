// Brings node_modules to what package-lock.json asks for, and only when it is not that already.
'use strict';

const fs = require('node:fs');
const path = require('node:path');
const { root, SetupError, say, npm } = require('./run');

function installPackages() {
  if (!upToDate()) install();
  linkItself();
}

function install() {
  say('installing the npm packages (npm ci)');
  // Warnings about the engines of packages that we only need for building would drown the rest.
  // No scripts: our own, `prepare`, would build what ships, and none of the packages needs its own.
  const arguments_ = ['ci', '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error'];
  if (npm(arguments_)) return;
  throw new SetupError('npm ci failed; what it said stands above. Mend that, then run the command again.');
}

/**
 * Examples, demo and types name the package as its users do. It is found here by a link, since a package that has no
 * `exports` (with which a require of 0.4.0's, 'redis-reservation/', would not be possible) does not find itself.
 */
function linkItself() {
  const link = path.join(root, 'node_modules', 'redis-reservation');
  if (fs.existsSync(link)) return;
  fs.rmSync(link, { force: true });
  fs.symlinkSync(root, link, 'junction');
}

/** Whether each package of the lock file is there in the very version that it names. */
function upToDate() {
  const wanted = readLock(path.join(root, 'package-lock.json'));
  // npm notes here what it put into node_modules.
  const present = readLock(path.join(root, 'node_modules', '.package-lock.json'));
  if (!wanted) throw new SetupError('package-lock.json is missing or cannot be read; `git checkout` it.');
  if (!present) return false;
  return Object.entries(wanted).every(([place, entry]) => {
    if (place === '') return true; // the project itself
    const have = present[place];
    if (!have) return Boolean(entry.optional || entry.devOptional); // made for another platform
    return (
      have.version === entry.version &&
      have.integrity === entry.integrity &&
      fs.existsSync(path.join(root, place))
    );
  });
}

function readLock(file) {
  try {
    return JSON.parse(fs.readFileSync(file, 'utf8')).packages;
  } catch {
    return null;
  }
}

module.exports = { installPackages };
