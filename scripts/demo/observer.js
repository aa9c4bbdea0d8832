// The demo's observer: reads the key in redis every 50 ms over a connection of its own, as any other client could, and records
// what it saw.
'use strict';

const { performance } = require('node:perf_hooks');
const { setTimeout: sleep } = require('node:timers/promises');

class Observer {
  constructor(client, key) {
    this.client = client;
    this.key = key;
    this.seen = [];
    this.watching = false;
  }

  start() {
    this.watching = true;
    this.done = this.loop();
  }

  async stop() {
    this.watching = false;
    await this.done;
  }

  async loop() {
    while (this.watching) {
      try {
        await this.look();
      } catch {} // redis is down, which is part of the demo
      await sleep(50);
    }
  }

  /** One look: `{ at, value, left }`, where `left` is what the key has to live, in ms. */
  async look() {
    const { client, key } = this;
    const [[, value], [, left]] = await client.multi().get(key).pttl(key).exec();
    const look = { at: performance.now(), value, left };
    this.seen.push(look);
    return look;
  }

  between(from, to) {
    return this.seen.filter(({ at }) => at >= from && at <= to);
  }
}

module.exports = { Observer };
