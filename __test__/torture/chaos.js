// Decides from a seed when each fault happens, and records its beginning and its end.
'use strict';

const { setTimeout: sleep } = require('node:timers/promises');
const { now } = require('./clock');
const { faults } = require('./faults');

/** At most so many faults at once. */
const AT_ONCE = 3;

/**
 * Causes faults until `signal` is aborted, then waits for the last ones to end. `only`: the names of the allowed faults, by
 * default all. `pace`: below 1 is faster.
 */
async function chaos(arena, random, signal, { only, pace = 1 } = {}) {
  const weights = {};
  for (const [name, { weight }] of Object.entries(faults)) {
    if (!only || only.includes(name)) weights[name] = weight;
  }
  const busy = new Set();
  const running = new Set();
  let number = 0;
  while (!signal.aborted) {
    // Storms and calms: in a storm one fault follows another, in a calm everything must recover.
    const calm = random.chance(0.12);
    const rest = pace * (calm ? random.between(1500, 4000) : random.between(20, 450));
    await sleep(rest, undefined, { signal }).catch(() => {});
    if (signal.aborted || running.size >= AT_ONCE || Object.keys(weights).length === 0) continue;
    const name = random.weighted(weights);
    const fault = faults[name];
    const slot = fault.scope === 'server' ? null : random.pick(arena.slots);
    const place = slot ? `${fault.scope} ${slot.name}` : fault.scope;
    // Faults of a link and a killed server both close gates. Gates count how many faults close them.
    if (busy.has(place) || (fault.scope === 'process' && !slot.child)) continue;
    number += 1;
    busy.add(place);
    const one = inflict(arena, random.fork(`fault ${number}`), { name, fault, slot, id: number });
    running.add(one);
    one.finally(() => {
      busy.delete(place);
      running.delete(one);
    });
  }
  await Promise.all(running);
}

async function inflict(arena, random, { name, fault, slot, id }) {
  const who = slot ? { slot: slot.name, worker: slot.child ? slot.child.name : null } : {};
  const from = now();
  arena.record('fault', { id, name, scope: fault.scope, state: 'begins', ...who }, from);
  try {
    await fault.run(arena, random, slot && target(slot));
  } catch (error) {
    // The kit failed, not the package. The run reports it at its end.
    arena.troubles.push(new Error(`the fault "${name}" could not be inflicted: ${error.stack}`));
  } finally {
    arena.record('fault', { id, name, scope: fault.scope, state: 'over', from, ...who });
  }
}

/** The current process of the worker. A fault stays with the process that it began with. */
function target({ proxy, gate, child }) {
  return { proxy, gate, child };
}

module.exports = { chaos };
