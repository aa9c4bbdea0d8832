// Ties processes to processor cores, where the system can (taskset, of Linux), and says so where it cannot.
'use strict';

const { spawnSync } = require('node:child_process');
const os = require('node:os');

function taskset(pid, cores) {
  const { status } = spawnSync('taskset', ['--all-tasks', '--pid', '--cpu-list', cores, String(pid)], {
    stdio: 'ignore',
  });
  return status === 0;
}

/**
 * Runs `work` with all these processes on one core; gives its value, or undefined where that cannot be done. A thread
 * that wakes another costs the same then, time after time; free to move, it depends on where the system puts them.
 */
async function onOneCore(pids, work) {
  const all = `0-${os.cpus().length - 1}`;
  try {
    for (const pid of pids) {
      if (!taskset(pid, '0')) return undefined;
    }
    return await work();
  } finally {
    for (const pid of pids) taskset(pid, all);
  }
}

module.exports = { onOneCore };
