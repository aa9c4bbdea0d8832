// Prepares a bench: the packages of the peers, a redis-server, and a release build of the package under test.
'use strict';

const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { spawnSync } = require('node:child_process');
const { binaryName, requireCargo } = require('../../scripts/setup/native');
const { installPackages } = require('../../scripts/setup/packages');
const { provideRedisServer } = require('../../scripts/setup/redis-server');
const { root, cache, SetupError, say, run, ask, npm } = require('../../scripts/setup/run');

const folder = path.join(root, 'benches');

/**
 * Gives `{ environment, binary }`: the environment of the children, and the native file that they load. `given`: the folder
 * of an existing package, which is measured as it is.
 */
function prepare(given) {
  installPackages();
  if (!hasPeers()) {
    say("installing the peers' npm packages (npm ci in benches/)");
    const ended = npm(['ci', '--prefix', folder, '--no-audit', '--no-fund', '--loglevel=error']);
    if (!ended) throw new SetupError('npm ci in benches/ failed; what it said stands above.');
  }
  const place = given ? path.resolve(given) : buildRelease();
  const native = fs.readdirSync(place).filter((name) => name.endsWith('.node'));
  if (native.length === 0) throw new SetupError(`There is no .node file in ${place}.`);
  const environment = { ...process.env, REDIS_SERVER: provideRedisServer(), BENCH_PACKAGE: place };
  return { environment, binary: path.join(place, native[0]) };
}

/** Whether benches/node_modules has exactly the versions of its lock file. */
function hasPeers() {
  const wanted = readPackages(path.join(folder, 'package-lock.json'));
  const present = readPackages(path.join(folder, 'node_modules', '.package-lock.json'));
  if (!wanted || !present) return false;
  return Object.entries(wanted).every(
    ([name, { version, optional }]) => name === '' || optional || present[name]?.version === version,
  );
}

function readPackages(file) {
  try {
    return JSON.parse(fs.readFileSync(file, 'utf8')).packages;
  } catch {
    return null;
  }
}

/**
 * A copy of the package with a release build. Not by `npm run build`, which would replace the binary of running tests in the
 * root. Cargo itself checks whether a build is necessary.
 */
function buildRelease() {
  requireCargo();
  say('building for release, if there is anything new (the first time takes some minutes)');
  if (!run('cargo', ['build', '--lib', '--release', '--locked'])) {
    throw new SetupError('The release build failed; what the compiler said stands above.');
  }
  const place = path.join(cache, 'bench-package');
  fs.rmSync(place, { recursive: true, force: true });
  fs.mkdirSync(place, { recursive: true });
  for (const name of ['index.js', 'lib', 'package.json']) {
    fs.cpSync(path.join(root, name), path.join(place, name), { recursive: true });
  }
  const metadata = JSON.parse(ask('cargo', ['metadata', '--format-version=1', '--no-deps']));
  const library = path.join(metadata.target_directory, 'release', libraryName());
  fs.copyFileSync(library, path.join(place, binaryName()));
  return place;
}

/** Cargo's file name of the binary. */
function libraryName() {
  if (process.platform === 'win32') return 'redis_reservation.dll';
  return `libredis_reservation.${process.platform === 'darwin' ? 'dylib' : 'so'}`;
}

/** The machine, without which the figures mean nothing. */
function machine({ binary }) {
  const cpus = os.cpus();
  const commit = spawnSync('git', ['rev-parse', '--short', 'HEAD'], { cwd: root, encoding: 'utf8' });
  return {
    processor: cpus[0]?.model.trim() || os.arch(),
    cores: cpus.length,
    memory: `${Math.round(os.totalmem() / 2 ** 30)} GiB`,
    system: `${os.type()} ${os.release()}`,
    node: process.version,
    commit: commit.status === 0 ? commit.stdout.trim() : undefined,
    binary: fs.statSync(binary).size,
    load: os.loadavg()[0],
    date: new Date().toISOString(),
  };
}

module.exports = { prepare, machine };
