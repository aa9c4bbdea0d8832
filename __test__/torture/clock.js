// One clock for all processes of a machine, and the conversion of redis's wall clock to it.
'use strict';

/**
 * Milliseconds of CLOCK_MONOTONIC, which is what `process.hrtime` reads on Linux: the same number in every process at
 * the same moment, and it goes on while a process is stopped.
 */
function now() {
  return Number(process.hrtime.bigint()) / 1e6;
}

/**
 * What to add to the wall clock, in ms, to get `now()`. Right to some hundredths of a millisecond, at the cost of a
 * few milliseconds of looking at it; the wall clock may be slewed, so it is to be asked again from time to time.
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
