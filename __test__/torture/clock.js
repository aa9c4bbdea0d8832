// One clock for all processes of a machine, and the conversion of redis's wall clock to it.
'use strict';

/**
 * Milliseconds of CLOCK_MONOTONIC, which `process.hrtime` reads on Linux: the same number in every process at the same moment.
 * It goes on while a process is stopped.
 */
function now() {
  return Number(process.hrtime.bigint()) / 1e6;
}

/**
 * The offset from the wall clock to `now()`, in ms, exact to some hundredths of a millisecond. Takes a few milliseconds to
 * measure. The wall clock may be slewed, so callers must measure again from time to time.
 */
function wallOffset() {
  const samples = [];
  while (samples.length < 3) {
    const wall = Date.now();
    let at;
    let next;
    do {
      at = now();
      next = Date.now();
    } while (next === wall);
    // A tick of more than a millisecond means that this process was not running: unusable.
    if (next === wall + 1) samples.push(at - next);
  }
  return samples.sort((one, other) => one - other)[1];
}

module.exports = { now, wallOffset };
