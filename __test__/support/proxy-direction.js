// One direction of one proxied connection: reads chunks from one socket, applies the active faults, and writes the rest to
// the other socket, in order.
'use strict';

const { setTimeout: sleep } = require('node:timers/promises');

class Direction {
  constructor(link, name, from, to) {
    this.link = link;
    this.name = name;
    this.to = to;
    this.rules = {};
    this.queue = [];
    this.busy = false;
    this.ended = false;
    this.random = null;
    from.on('data', (chunk) => this.take(chunk));
    from.on('end', () => this.take(null));
  }

  apply(rules) {
    if (rules.jitter && rules.jitter !== this.rules.jitter) this.random = generator(rules.seed);
    this.rules = rules;
    this.pump();
  }

  end() {
    this.ended = true;
    this.queue = [];
  }

  /** Loses everything from now on, and calls back once something was lost. */
  swallow(done) {
    this.swallowed = done;
  }

  take(chunk) {
    if (this.ended || this.rules.losing) return;
    const kept = chunk === null ? null : this.damage(chunk);
    if (kept === undefined) return;
    this.queue.push({ chunk: kept, due: performance.now() + this.latency() });
    this.pump();
  }

  /** What the faults for single chunks leave of this one; undefined for nothing. */
  damage(chunk) {
    const { rules, link, name } = this;
    if (this.swallowed) {
      this.swallowed();
      return undefined;
    }
    if (rules.onRequest && rules.onRequest.matches(chunk)) {
      link.proxy.spend(name, 'onRequest');
      return rules.onRequest.act(link, chunk) === 'forward' ? chunk : undefined;
    }
    if (rules.replacement) {
      link.proxy.spend(name, 'replacement');
      return rules.replacement;
    }
    if (rules.truncate !== undefined) {
      link.proxy.spend(name, 'truncate');
      this.cutAfterWrite = true;
      return chunk.subarray(0, rules.truncate);
    }
    return chunk;
  }

  latency() {
    const { delay = 0, jitter = 0 } = this.rules;
    return delay + (jitter ? this.random() * jitter : 0);
  }

  async pump() {
    if (this.busy) return;
    this.busy = true;
    while (this.queue.length > 0 && !this.ended && !this.rules.stalled) {
      const wait = this.queue[0].due - performance.now();
      if (wait > 0) {
        await sleep(wait);
        continue; // the faults may have changed meanwhile
      }
      await this.write(this.queue.shift().chunk);
    }
    this.busy = false;
  }

  async write(chunk) {
    const { to } = this;
    if (to.destroyed) return;
    if (chunk === null) {
      to.end();
      return;
    }
    const size = this.rules.slice || chunk.length || 1;
    for (let start = 0; start < chunk.length && !to.destroyed; start += size) {
      to.write(chunk.subarray(start, start + size));
      // Each piece is a packet: the reader gets it before the next one is written.
      if (this.rules.slice) await sleep(1);
    }
    if (this.cutAfterWrite) to.end(() => this.link.destroy());
  }
}

/** A small generator of numbers in [0, 1): the same sequence for the same seed. */
function generator(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}

module.exports = { Direction };
