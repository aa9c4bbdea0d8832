// Running programs for the set-up: prints one line before each, then its output; a failure ends the set-up with one clear
// message.
'use strict';

const { spawnSync } = require('node:child_process');
const fs = require('node:fs');
const path = require('node:path');

const root = path.resolve(__dirname, '..', '..');
/** The set-up's cache. Outside of node_modules, which `npm ci` empties. */
const cache = path.join(root, '.cache');

/** Ends the set-up. Only its message is printed, so it says what to do. */
class SetupError extends Error {}

function say(line) {
  process.stdout.write(`setup: ${line}\n`);
}

/** Runs a program in the project's folder and shows its output. Returns whether it exited with 0. */
function run(command, args, options) {
  const result = spawnSync(command, args, {
    cwd: root,
    stdio: ['ignore', 'inherit', 'inherit'],
    ...options,
  });
  return result.status === 0;
}

/** Runs a program and returns its output; null if it is missing or failed. */
function ask(command, args, options) {
  const result = spawnSync(command, args, {
    cwd: root,
    stdio: ['ignore', 'pipe', 'ignore'],
    encoding: 'utf8',
    ...options,
  });
  return result.status === 0 ? result.stdout : null;
}

/** The npm that started this process, else the one on PATH. */
function npm(args) {
  const started = process.env.npm_execpath;
  if (started && /npm-cli\.js$/.test(started)) return run(process.execPath, [started, ...args]);
  return run('npm', args, { shell: process.platform === 'win32' });
}

/** The full path of a program on PATH, or null. */
function which(program) {
  const endings = process.platform === 'win32' ? ['.exe', '.cmd', ''] : [''];
  for (const folder of (process.env.PATH || '').split(path.delimiter)) {
    if (!folder) continue;
    for (const ending of endings) {
      const file = path.join(folder, program + ending);
      try {
        fs.accessSync(file, fs.constants.X_OK);
        if (fs.statSync(file).isFile()) return file;
      } catch {}
    }
  }
  return null;
}

module.exports = { root, cache, SetupError, say, run, ask, npm, which };
