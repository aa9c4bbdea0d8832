// Pseudo-random numbers from a seed, for every decision of a torture run.
'use strict';

/**
 * A source of numbers. `seed`: any value, as text. `fork(name)` gives an independent source from the same seed, so that one part
 * does not change the numbers of another.
 */
function makeRandom(seed) {
  const text = String(seed);
  let state = hash(text);
  const random = {
    /** In [0, 1). */
    next() {
      state = (state + 0x6d2b79f5) >>> 0;
      let mixed = Math.imul(state ^ (state >>> 15), state | 1);
      mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
      return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
    },
    /** A whole number from `from` to `to`, both included. */
    between(from, to) {
      return from + Math.floor(random.next() * (to - from + 1));
    },
    /** True with this probability. */
    chance(share) {
      return random.next() < share;
    },
    pick(list) {
      return list[Math.floor(random.next() * list.length)];
    },
    /** One of the keys of `{ name: weight }`. */
    weighted(weights) {
      const entries = Object.entries(weights);
      let left = random.next() * entries.reduce((sum, [, weight]) => sum + weight, 0);
      for (const [name, weight] of entries) {
        left -= weight;
        if (left < 0) return name;
      }
      return entries[entries.length - 1][0];
    },
    fork(name) {
      return makeRandom(`${text}/${name}`);
    },
  };
  return random;
}

/** FNV-1a, 32 bits. */
function hash(text) {
  let value = 0x811c9dc5;
  for (const byte of Buffer.from(text)) value = Math.imul(value ^ byte, 0x01000193) >>> 0;
  return value;
}

module.exports = { makeRandom };
