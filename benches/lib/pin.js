// Pins processes to cores where the system can (taskset on Linux), and reports where it cannot.
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
 * Runs `work` with all these processes on one core. Gives its value, or undefined where pinning is impossible. On one core,
 * waking a thread always costs the same. Otherwise the cost depends on the cores that the system chooses.
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
