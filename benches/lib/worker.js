// The child process of one contender: calls the functions that the scenario has in `worker`, as the bench requests. Arguments:
// the name of the scenario, the id of the contender, the settings as JSON.
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
  /** Values that one call keeps for the next. */
  kept: {},
  /** The connection of the contender, opened at the first call and shared by all. */
  session() {
    this.opened ??= this.contender.open(this.settings);
    return this.opened;
  },
  /** Sends the bench a message during a call. */
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

// The bench has ended.
process.on('disconnect', () => process.exit(0));

process.send({ ready: true });
