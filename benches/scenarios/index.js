// The scenarios, in the order in which they run.
'use strict';

const { SetupError } = require('../../scripts/setup/run');

const names = [
  'construct',
  'startup',
  'sequence',
  'burst',
  'hand-off',
  'expiry',
  'herd',
  'waiting-cost',
  'heartbeat',
  'blocked-loop',
  'loss',
  'memory',
  'growth',
  'processes',
];

function scenario(name) {
  if (!names.includes(name)) {
    throw new SetupError(`There is no scenario ${name}; there are ${names.join(', ')}.`);
  }
  return { ...require(`./${name}`), name };
}

module.exports = { names, scenario };
