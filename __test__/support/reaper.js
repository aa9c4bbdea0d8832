// Ends everything that a test starts: also after a failed test, after Ctrl-C, and after a SIGKILL of the test itself.
'use strict';

const { spawn } = require('node:child_process');
const fs = require('node:fs');

/** What must be ended or removed: running processes, temporary folders. */
const running = new Map(); // pid -> the watchdog that ends it if we cannot
const folders = new Set();
let installed = false;

/** Ends this child when this process ends, in whatever way. */
function reap(child) {
  install();
  running.set(child.pid, startWatchdog(child.pid));
  child.once('exit', () => {
    const watchdog = running.get(child.pid);
    running.delete(child.pid);
    if (watchdog) watchdog.stdin.end('all is well\n');
  });
}

/** Removes this folder when this process ends. */
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
  // Without a handler, a signal ends the process without an 'exit' event.
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
 * A shell that reads from a pipe. A line means that the child has ended by itself. The end of the pipe without a line means
 * that this process has died: then the shell ends the child.
 */
function startWatchdog(pid) {
  if (process.platform === 'win32') return null;
  const script = 'trap "" INT TERM HUP; read -r line || kill -9 "$1" 2>/dev/null';
  const watchdog = spawn('sh', ['-c', script, 'watchdog', String(pid)], {
    stdio: ['pipe', 'ignore', 'ignore'],
  });
  watchdog.on('error', () => {}); // without a shell, only the handlers above work
  watchdog.stdin.on('error', () => {});
  watchdog.unref();
  watchdog.stdin.unref();
  return watchdog;
}

module.exports = { reap, removeAtEnd, removeNow };
