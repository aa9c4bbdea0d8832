// The critical section: a counter in redis that is read, and after a while written, while the lock is held.
'use strict';

const { setTimeout: sleep } = require('node:timers/promises');

/**
 * Two counters a key, for two promises.
 *
 * `plain`: written without a condition. Between the last look at `held` and the command in redis there is a gap (a SIGSTOP, a
 * slow link), which no lock on a separate server can close. So a write counts as certain only if the same lease was still held
 * *after* its answer: then it was held all the time, also during the gap, and no other section may have written between the read
 * and the write. An uncertain write may come late and overwrite another one. The value names its writer, so the checker knows.
 *
 * `fenced`: written only if, in the same step inside redis, the key of the lock still has our value. Here no pause matters, and
 * no update may ever be lost. If the lease was held before and after, the fence must have been open.
 */
const counters = {
  plain: (key) => `counter:plain:${key}`,
  fenced: (key) => `counter:fenced:${key}`,
};

const FENCE = `
  local holder = redis.call('get', KEYS[1])
  local old = redis.call('get', KEYS[2])
  local open = holder == ARGV[1]
  if open then redis.call('set', KEYS[2], ARGV[2]) end
  return { open and 1 or 0, old, holder }`;

let sections = 0;

/** One read–sleep–write under `hold`. Records all of it. */
async function writeGuarded(instance, hold) {
  const { worker, random, record } = instance;
  const { op, key, val } = hold;
  const mode = random.pick(['plain', 'fenced']);
  const counter = counters[mode](key);
  sections += 1;
  const section = `${op}.s${sections}`;
  const rest = random.pick([0, random.between(1, 20), random.between(20, 150)]);
  if (!instance.sample(hold)) return;
  try {
    const read = await worker.data.get(counter);
    record('read', { op, section, key, mode, read });
    if (rest > 0) await sleep(rest);
    // Lost meanwhile, or no longer certain: no write.
    if (instance.holds.get(key) !== hold || !instance.sample(hold)) return;
    const next = `${Number.parseInt(read || '0', 10) + 1}:${section}`;
    record('write', { op, section, key, mode, read, next });
    const written = await write(worker.data, mode, counter, `reservation-${key}`, val, next);
    const held = instance.holds.get(key) === hold && instance.sample(hold);
    record('written', { op, section, key, mode, read, next, ...written, held });
  } catch (error) {
    // It is unknown whether it was written.
    record('write-failed', { op, section, message: error.message });
    await sleep(20);
  }
}

/** The previous value of the counter, and whether it was written. */
async function write(data, mode, counter, lock, val, next) {
  if (mode === 'plain') return { old: await data.getset(counter, next), done: true };
  const [open, old, holder] = await data.eval(FENCE, 2, lock, counter, String(val), next);
  return { old, done: open === 1, holder };
}

module.exports = { writeGuarded, counters };
