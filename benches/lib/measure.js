// What a process measures of itself during some work: time, CPU time (of all threads, and of the one that runs JavaScript),
// memory, and how long its event loop was blocked.
'use strict';

const fs = require('node:fs');
const { monitorEventLoopDelay } = require('node:perf_hooks');
const { setTimeout: sleep } = require('node:timers/promises');

/** Runs `work`. Gives its value, the time in ms, and the CPU time in µs. */
async function measure(work) {
  const thread = threadMicroseconds();
  const cpu = process.cpuUsage();
  const start = process.hrtime.bigint();
  const value = await work();
  const ms = Number(process.hrtime.bigint() - start) / 1e6;
  const { user, system } = process.cpuUsage(cpu);
  const js = thread === null ? null : threadMicroseconds() - thread;
  return { value, ms, cpu: user + system, js };
}

/** The same, and the longest time between two turns of the event loop, in ms. Measuring that costs CPU time. */
async function measureWithDelay(work) {
  const delay = monitorEventLoopDelay({ resolution: 1 });
  delay.enable();
  // The first turn only starts the clock.
  await sleep(10);
  delay.reset();
  const result = await measure(work);
  await sleep(10);
  delay.disable();
  return { ...result, delay: delay.max / 1e6 };
}

/** CPU time of the thread that runs JavaScript, in µs; null where the system does not provide it. */
function threadMicroseconds() {
  if (typeof process.threadCpuUsage === 'function') {
    const { user, system } = process.threadCpuUsage();
    return user + system;
  }
  try {
    // The main thread's id is the process's. The first number is nanoseconds on a core.
    const text = fs.readFileSync(`/proc/self/task/${process.pid}/schedstat`, 'latin1');
    return Number(text.split(' ', 1)[0]) / 1000;
  } catch {
    return null;
  }
}

/** CPU time of each thread by its name, in µs, for profiling. Empty where the system does not provide it. */
function threads() {
  const found = {};
  try {
    for (const thread of fs.readdirSync('/proc/self/task')) {
      const folder = `/proc/self/task/${thread}`;
      const name = fs.readFileSync(`${folder}/comm`, 'latin1').trim();
      const used = Number(fs.readFileSync(`${folder}/schedstat`, 'latin1').split(' ', 1)[0]) / 1000;
      found[name] = (found[name] || 0) + used;
    }
  } catch {}
  return found;
}

/** The most memory that this process had at any time, in MB. */
function peakMemory() {
  try {
    // Not resourceUsage(), which includes the memory of the parent at the fork.
    const text = fs.readFileSync('/proc/self/status', 'latin1');
    return Number(/^VmHWM:\s+(\d+) kB/m.exec(text)[1]) / 1024;
  } catch {
    return process.resourceUsage().maxRSS / 1024;
  }
}

/** The memory of this process, and the part of JavaScript, in bytes, after a garbage collection (--expose-gc). */
async function settledMemory() {
  for (let turn = 0; turn < 4; turn += 1) {
    if (global.gc) global.gc();
    await sleep(50);
  }
  const { rss, heapUsed } = process.memoryUsage();
  return { all: rss, heap: heapUsed };
}

module.exports = { measure, measureWithDelay, threads, peakMemory, settledMemory };
