// Waiting for a condition: the only way in which tests wait.
'use strict';

const { setTimeout: sleep } = require('node:timers/promises');

/**
 * Calls `condition` (which may be async) every `interval` ms and resolves with its first truthy value. Rejects after `timeout`
 * ms; the error names `what` and the last value. A condition that throws counts as "not yet".
 */
async function until(condition, { timeout = 5000, interval = 10, what = 'the condition' } = {}) {
  const deadline = performance.now() + timeout;
  for (;;) {
    let seen;
    try {
      seen = await condition();
      if (seen) return seen;
    } catch (error) {
      seen = error;
    }
    if (performance.now() > deadline) {
      const last = seen instanceof Error ? seen.message : require('node:util').inspect(seen);
      throw new Error(`${what} did not come within ${timeout} ms; last seen: ${last}`);
    }
    await sleep(interval);
  }
}

/** The outcome of the promise, or an error that `what` took more than `timeout` ms. */
async function within(timeout, promise, what = 'the answer') {
  let timer;
  const limit = new Promise((resolve, reject) => {
    timer = setTimeout(() => reject(new Error(`${what} did not come within ${timeout} ms`)), timeout);
  });
  try {
    return await Promise.race([promise, limit]);
  } finally {
    clearTimeout(timer);
  }
}

/** Looks every `interval` ms while `work` runs. Resolves with the value of `work` and everything that was seen. */
async function watchWhile(work, look, interval = 50) {
  const seen = [];
  let done = false;
  const watching = (async () => {
    while (!done) {
      seen.push(await look());
      await sleep(interval);
    }
  })();
  try {
    const value = await work();
    return { value, seen };
  } finally {
    done = true;
    await watching;
  }
}

/**
 * Repeats `call`, five times at most, until an outcome comes within `ms`, and resolves with it. A call that waits or retries
 * that long by design never succeeds here. On a busy machine, a fast call does after some tries.
 */
async function atOnce(ms, call) {
  const times = [];
  while (times.length < 5) {
    const start = performance.now();
    const outcome = await call();
    times.push(performance.now() - start);
    if (times.at(-1) < ms) return outcome;
  }
  throw new Error(`not once within ${ms} ms: ${times.map(Math.round)}`);
}

module.exports = { until, within, watchWhile, atOnce };
