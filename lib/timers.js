// Node's own timers and ticks, as they are when the package is loaded. Tests of callers put a faked clock in the place of
// the global ones, around some of their calls; jsdom has no setImmediate, and zone.js has others. Nothing of that is to
// keep a call from being answered, so no other file of the package uses a global timer: the linter sees to it.
'use strict';

// From the module and not the globals, which may be faked or absent already.
const { clearInterval, clearTimeout, setImmediate, setInterval, setTimeout } = require('timers');

const next_tick = process.nextTick.bind(process);

module.exports = { clearInterval, clearTimeout, next_tick, setImmediate, setInterval, setTimeout };
