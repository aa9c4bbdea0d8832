// Builds the native half if the binary is missing or older than its sources. A build by hand (`npm run build`) counts: then
// there is nothing to do.
'use strict';

const crypto = require('node:crypto');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { root, cache, SetupError, say, npm, ask } = require('./run');

const stampFile = path.join(cache, 'native.json');

function buildNative() {
  const binary = path.join(root, binaryName());
  const sources = readSources();
  if (isFresh(binary, sources)) return;
  requireCargo();
  say(`building ${path.basename(binary)} (the first time takes about a minute)`);
  if (!npm(['run', '--silent', 'build:debug'])) {
    throw new SetupError('The native build failed; what the compiler said stands above.');
  }
  const built = statOf(binary);
  if (!built) throw new SetupError(`The native build ended well but left no ${path.basename(binary)}.`);
  writeStamp(sources, built);
}

/** The file name of the binary for this machine. */
function binaryName() {
  const { platform, arch } = process;
  const suffix = { linux: isMusl() ? '-musl' : '-gnu', win32: '-msvc' }[platform] || '';
  return `redis-reservation.${platform}-${arch}${suffix}.node`;
}

function isMusl() {
  if (process.platform !== 'linux') return false;
  return !process.report.getReport().header.glibcVersionRuntime;
}

/** A hash over all sources of the binary, and the time of the latest change. */
function readSources() {
  const hash = crypto.createHash('sha256');
  let youngest = 0;
  const visit = (relative) => {
    const full = path.join(root, relative);
    const stat = statOf(full);
    if (!stat) return;
    youngest = Math.max(youngest, stat.mtimeMs);
    if (stat.isDirectory()) {
      for (const name of fs.readdirSync(full).sort()) visit(path.join(relative, name));
    } else {
      hash.update(`${relative}\0${stat.size}\0`).update(fs.readFileSync(full));
    }
  };
  ['Cargo.toml', 'Cargo.lock', 'build.rs', '.cargo', 'src'].forEach(visit);
  return { hash: hash.digest('hex'), youngest };
}

function isFresh(binary, sources) {
  const built = statOf(binary);
  if (!built) return false;
  const stamp = readStamp();
  // The same sources as when this binary was built, even if git has changed their times since.
  if (stamp && stamp.sources === sources.hash && stamp.made === built.mtimeMs) return true;
  if (stamp && stamp.made === built.mtimeMs) return false;
  // Somebody else built it: compare the times once, then remember the hash.
  if (built.mtimeMs < sources.youngest) return false;
  writeStamp(sources, built);
  return true;
}

function readStamp() {
  try {
    return JSON.parse(fs.readFileSync(stampFile, 'utf8'));
  } catch {
    return null;
  }
}

function writeStamp(sources, built) {
  fs.mkdirSync(cache, { recursive: true });
  fs.writeFileSync(stampFile, `${JSON.stringify({ sources: sources.hash, made: built.mtimeMs })}\n`);
}

function statOf(file) {
  return fs.statSync(file, { throwIfNoEntry: false });
}

/** Whether there is a cargo. Puts it on PATH. */
function findCargo() {
  if (ask('cargo', ['--version'])) return true;
  // A fresh rustup install is on PATH only in the next shell.
  const rustup = path.join(process.env.CARGO_HOME || path.join(os.homedir(), '.cargo'), 'bin');
  process.env.PATH = `${rustup}${path.delimiter}${process.env.PATH}`;
  return Boolean(ask('cargo', ['--version']));
}

function requireCargo() {
  if (findCargo()) return;
  throw new SetupError(
    'Rust is needed to build the native half, and no `cargo` was found.\n' +
      'Install it with rustup (https://rustup.rs), then run the command again.',
  );
}

module.exports = { buildNative, binaryName, findCargo, requireCargo };
