// The child process of one contender: does what the bench asks of it, by calling the functions that its scenario has
// under `worker`. Arguments: the scenario's name, the contender's id, the settings as JSON.
'use strict';

const { contender: find } = require('../contenders');
const { scenario: load } = require('../scenarios');
const measuring = require('./measure');

const [name, id, json] = process.argv.slice(2);
const scenario = load(name);

const context = {
  ...measuring,
  contender: find(id),
  settings: JSON.parse(json),
  /** Things that one call leaves for the next. */
  kept: {},
  /** The contender's connection, opened at the first call and shared by all. */
  session() {
    this.opened ??= this.contender.open(this.settings);
    return this.opened;
  },
  /** Tells the bench something while a call is still running. */
  tell(event) {
    process.send({ event });
  },
};

process.on('message', async ({ call, method, args }) => {
  try {
    const value = await scenario.worker[method](context, ...args);
    process.send({ call, value, peak: measuring.peakMemory() });
  } catch (error) {
    process.send({ call, error: error && error.stack ? error.stack : String(error) });
  }
});

// The bench is gone: nobody is left to measure for.
process.on('disconnect', () => process.exit(0));

process.send({ ready: true });
