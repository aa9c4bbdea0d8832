// Node's own timers and nextTick, as they were when the package was loaded. Callers' tests replace the global ones by a fake
// clock, jsdom has no setImmediate, and zone.js patches them. A call must be answered all the same, so no other file of the
// package uses a global timer. The linter checks that.
'use strict';

// From the module: the globals may be faked or absent already.
const { clearInterval, clearTimeout, setImmediate, setInterval, setTimeout } = require('timers');

const next_tick = process.nextTick.bind(process);

// The longest timer that Node takes (ms). A longer one fires at once.
const LONGEST_TIMER = Math.pow(2, 31) - 1;

module.exports = {
  LONGEST_TIMER,
  clearInterval,
  clearTimeout,
  next_tick,
  setImmediate,
  setInterval,
  setTimeout,
};
