// A small TCP proxy between a client and a redis-server, with the faults of bad networks: cut, stall, lose, delay, slice,
// corrupt, refuse.
'use strict';

const { once } = require('node:events');
const net = require('node:net');
const { Direction } = require('./proxy-direction');

const host = '127.0.0.1';

/**
 * Starts a proxy for the server at `target.port`. `t`: the context of the test (or null); the proxy ends with the test. Each
 * fault applies to open and to new connections until `heal()`.
 * Directions: 'up' (client to redis), 'down' (redis to client), 'both'.
 */
async function startProxy(t, target) {
  const proxy = new Proxy(target);
  if (t) t.after(() => proxy.stop());
  await proxy.accept();
  return proxy;
}

class Proxy {
  constructor(target) {
    this.target = target;
    this.host = host;
    this.port = 0;
    this.links = new Set();
    this.accepted = 0; // connections since the start
    this.rules = { up: {}, down: {} };
    this.listener = null;
  }

  /** What a child process needs to find this proxy as its redis. */
  get environment() {
    return { REDIS_HOST: this.host, REDIS_PORT: String(this.port) };
  }

  /** Refuses new connections (ECONNREFUSED) until `accept()`. The open ones stay. */
  async refuse() {
    const { listener } = this;
    if (!listener) return;
    this.listener = null;
    // close() calls back only after the open connections. The port is closed already.
    listener.close();
  }

  /** Listens (again), on the same port as before. */
  async accept() {
    if (this.listener) return;
    this.listener = net.createServer({ allowHalfOpen: true }, (socket) => this.connect(socket));
    this.listener.listen(this.port, host);
    await once(this.listener, 'listening');
    this.port = this.listener.address().port;
  }

  /** Ends all open connections at once. `reset`: with a TCP reset instead of a close. */
  cut({ reset = false } = {}) {
    for (const link of this.links) link.cut(reset);
  }

  /** Holds back everything until `heal()`, then passes it on in order. Also on new connections. */
  stall(direction = 'both') {
    this.set(direction, { stalled: true });
  }

  /** Drops everything: a silently dead link. */
  lose(direction = 'both') {
    this.set(direction, { losing: true });
  }

  /** Delays everything by `ms`, and up to `jitter` ms more (from a fixed seed), in order. */
  delay(ms, { direction = 'both', jitter = 0, seed = 1 } = {}) {
    this.set(direction, { delay: ms, jitter, seed });
  }

  /** Passes everything on in pieces of `size` bytes, each in a separate write. */
  slice(size, { direction = 'both' } = {}) {
    this.set(direction, { slice: size });
  }

  /** Replaces the next chunk by these bytes, on any connection. */
  corruptNext(bytes = '\x00garbage\r\n', direction = 'down') {
    this.set(direction, { replacement: Buffer.from(bytes) });
  }

  /** Passes on only the first `size` bytes of the next chunk, then cuts that connection. */
  truncateNext(size, direction = 'down') {
    this.set(direction, { truncate: size });
  }

  /**
   * Passes on the next matching request, and loses everything that comes back after it: when the reply has arrived, cuts the
   * connection and resolves.
   */
  dropReply(matches) {
    return new Promise((resolve) => {
      this.set('up', {
        onRequest: {
          matches: (chunk) => chunk.toString('latin1').search(matches) >= 0,
          act: (link) => {
            link.down.swallow(() => {
              link.cut(false);
              resolve();
            });
            return 'forward';
          },
        },
      });
    });
  }

  /**
   * Holds the next matching request back and cuts its client off, while the connection to redis stays open:
   * `await held.caught`, then `held.deliver()` passes it on, late.
   */
  holdRequest(matches) {
    const held = {};
    held.caught = new Promise((resolve) => {
      this.set('up', {
        onRequest: {
          matches: (chunk) => chunk.toString('latin1').search(matches) >= 0,
          act: (link, chunk) => {
            held.deliver = () => link.deliverLate(chunk);
            link.orphan();
            resolve();
            return 'keep';
          },
        },
      });
    });
    return held;
  }

  /** Ends all faults, and passes on what was stalled. Does not accept again: see `accept()`. */
  heal() {
    this.rules = { up: {}, down: {} };
    for (const link of this.links) link.apply(this.rules);
  }

  async stop() {
    await this.refuse();
    for (const link of [...this.links]) link.destroy();
  }

  set(direction, rule) {
    for (const one of direction === 'both' ? ['up', 'down'] : [direction]) {
      this.rules[one] = { ...this.rules[one], ...rule };
    }
    for (const link of this.links) link.apply(this.rules);
  }

  /** A rule for a single chunk has been applied. */
  spend(direction, name) {
    const rest = { ...this.rules[direction] };
    delete rest[name];
    this.rules[direction] = rest;
    for (const link of this.links) link.apply(this.rules);
  }

  connect(client) {
    this.accepted += 1;
    this.links.add(new Link(this, client));
  }
}

/** The connection of one client, and the matching one to redis. */
class Link {
  constructor(proxy, client) {
    this.proxy = proxy;
    this.client = client;
    this.server = net.connect({ port: proxy.target.port, host, allowHalfOpen: true });
    this.up = new Direction(this, 'up', client, this.server);
    this.down = new Direction(this, 'down', this.server, client);
    for (const socket of [client, this.server]) {
      socket.setNoDelay(true);
      socket.on('error', () => {}); // 'close' follows
    }
    client.on('close', () => this.orphaned || this.destroy());
    this.server.on('close', () => this.destroy());
    this.apply(proxy.rules);
  }

  apply(rules) {
    this.up.apply(rules.up);
    this.down.apply(rules.down);
  }

  cut(reset) {
    if (reset) {
      this.client.resetAndDestroy();
      this.server.resetAndDestroy();
    }
    this.destroy();
  }

  /** Cuts the client off. The connection to redis stays until it is used or the proxy ends. */
  orphan() {
    this.orphaned = true;
    this.client.destroy();
  }

  deliverLate(chunk) {
    if (!this.server.destroyed) this.server.write(chunk);
  }

  destroy() {
    this.proxy.links.delete(this);
    this.up.end();
    this.down.end();
    this.client.destroy();
    this.server.destroy();
  }
}

module.exports = { startProxy };
