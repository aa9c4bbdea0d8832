// A user of locks at a steady pace while something breaks elsewhere: the longest time of a lock, and the failures.
'use strict';

const assert = require('node:assert/strict');
const { setTimeout: sleep } = require('node:timers/promises');
const { within } = require('../../support/wait');
const { onCluster, patient } = require('./shards');

/**
 * Locks and releases each of these names repeatedly, until `stop()`, which gives `{ longest, errors, count }`: the longest time
 * of a lock with its release in ms, the messages of failures, and the number of locks.
 */
function useSteadily(t, cluster, names, settings) {
  const reservations = names.map(() => onCluster(t, cluster, { ttl: 30, ...settings }));
  const seen = { longest: 0, errors: [], count: 0 };
  let going = true;
  const users = names.map(async (name, place) => {
    while (going) {
      const start = performance.now();
      try {
        assert.equal(await reservations[place].lock(name), true);
        assert.equal(await reservations[place].release(), 1);
      } catch (error) {
        seen.errors.push(error.message);
      }
      seen.count += 1;
      seen.longest = Math.max(seen.longest, performance.now() - start);
      await sleep(5); // a user's pace
    }
  });
  const stop = async () => {
    going = false;
    await within(patient.timeout, Promise.all(users));
    return seen;
  };
  t.after(stop);
  return { seen, stop };
}

module.exports = { useSteadily };
