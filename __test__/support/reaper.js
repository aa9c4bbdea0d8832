// Sees to it that nothing a test starts outlives it: not after a failed test, not after Ctrl-C,
// not even after a SIGKILL of the test itself.
'use strict';

const { spawn } = require('node:child_process');
const fs = require('node:fs');

/** What is to be undone at the end: processes still running, folders still there. */
const running = new Map(); // pid -> the watchdog that ends it if we cannot
const folders = new Set();
let installed = false;

/** Ends this child, if it still runs, when this process ends in whatever way. */
function reap(child) {
  install();
  running.set(child.pid, startWatchdog(child.pid));
  child.once('exit', () => {
    const watchdog = running.get(child.pid);
    running.delete(child.pid);
    if (watchdog) watchdog.stdin.end('all is well\n');
  });
}

/** Removes this folder when this process ends, if nobody did before. */
function removeAtEnd(folder) {
  install();
  folders.add(folder);
}

function removeNow(folder) {
  folders.delete(folder);
  fs.rmSync(folder, { recursive: true, force: true });
}

function install() {
  if (installed) return;
  installed = true;
  process.on('exit', undoAll);
  // Without a handler a signal ends the process and no 'exit' is told.
  const signals = { SIGHUP: 1, SIGINT: 2, SIGTERM: 15 };
  for (const [signal, number] of Object.entries(signals)) {
    process.on(signal, () => process.exit(128 + number));
  }
}

function undoAll() {
  for (const [pid, watchdog] of running) {
    kill(pid);
    if (watchdog) watchdog.kill('SIGKILL');
  }
  running.clear();
  for (const folder of folders) removeNow(folder);
}

function kill(pid) {
  try {
    process.kill(pid, 'SIGKILL'); // works on stopped processes too
  } catch {} // gone already
}

/**
 * A shell that reads from a pipe. A line means that the child ended by itself; the pipe's end
 * without one means that we died, and then it ends the child.
 */
function startWatchdog(pid) {
  if (process.platform === 'win32') return null;
  const script = 'trap "" INT TERM HUP; read -r line || kill -9 "$1" 2>/dev/null';
  const watchdog = spawn('sh', ['-c', script, 'watchdog', String(pid)], {
    stdio: ['pipe', 'ignore', 'ignore'],
  });
  watchdog.on('error', () => {}); // no shell: then only the handlers above are there
  watchdog.stdin.on('error', () => {});
  watchdog.unref();
  watchdog.stdin.unref();
  return watchdog;
}

module.exports = { reap, removeAtEnd, removeNow };
