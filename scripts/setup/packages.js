// Installs the packages of package-lock.json, unless node_modules has exactly these.
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
  // Without warnings about the `engines` of packages that only the build needs.
  // Without scripts: our `prepare` would make a release build, and no package needs its own.
  const arguments_ = ['ci', '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error'];
  if (npm(arguments_)) return;
  throw new SetupError('npm ci failed; what it said stands above. Mend that, then run the command again.');
}

/**
 * Examples, demo and types require the package by its name, as users do. A link in node_modules makes that work here: only a
 * package with `exports` finds itself, and `exports` would break the require('redis-reservation/') that 0.4.0 allows.
 */
function linkItself() {
  const link = path.join(root, 'node_modules', 'redis-reservation');
  if (fs.existsSync(link)) return;
  fs.rmSync(link, { force: true });
  fs.symlinkSync(root, link, 'junction');
}

/** Whether every package of the lock file is installed in exactly its version. */
function upToDate() {
  const wanted = readLock(path.join(root, 'package-lock.json'));
  // npm's record of what it put into node_modules.
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
