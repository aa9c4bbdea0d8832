// Redis's side of the history of a torture run: every command on the key of a lock, in redis's order and at redis's time, from
// MONITOR on a direct connection.
'use strict';

const { once } = require('node:events');
const net = require('node:net');
const { within } = require('../support/wait');
const { now, wallOffset } = require('./clock');

/** How long a measured offset of redis's clock is used, in ms. */
const OFFSET_LASTS = 10000;

/** Frequent commands that change no key. */
const reading = new Set([
  'get',
  'pttl',
  'ping',
  'command',
  'client',
  'script',
  'hello',
  'info',
  'exists',
  'mget',
]);

class Monitor {
  /** `record(event, fields, t)` gets each event; `keys` are the resources. `onBroken(pid)`: the record has a gap. */
  constructor(server, keys, record, onBroken) {
    this.onBroken = onBroken;
    this.server = server;
    this.keys = keys;
    this.record = record;
    this.socket = null;
    this.wanted = false;
    this.offset = null;
  }

  /** Starts to listen, and records the value of each key. Call it before any other client reaches the server. */
  async attach() {
    const { server } = this;
    const { pid } = server;
    this.wanted = true;
    const socket = net.connect({ port: server.port, host: server.host });
    this.socket = socket;
    let rest = '';
    socket.setEncoding('latin1').on('data', (text) => {
      const lines = (rest + text).split('\r\n');
      rest = lines.pop();
      for (const line of lines) this.take(line);
    });
    socket.on('error', () => {});
    socket.on('close', () => {
      // A moment later, when it is known whether the server ended by itself.
      if (this.wanted && this.socket === socket) setTimeout(() => this.onBroken(pid), 200);
    });
    await within(5000, once(socket, 'connect'), 'a connection for MONITOR');
    const listening = new Promise((resolve) => {
      this.ready = resolve;
    });
    socket.write('MONITOR\r\n');
    await within(5000, listening, 'the answer to MONITOR');
    this.record('monitor', { state: 'listening' });
    await this.snapshot();
  }

  /** Expects the end of the connection: the server is about to be killed. */
  detach() {
    this.wanted = false;
  }

  end() {
    this.detach();
    if (this.socket) this.socket.destroy();
  }

  async snapshot() {
    const client = this.server.client();
    try {
      for (const key of this.keys) {
        const from = now();
        const [[, value], [, left]] = await client
          .multi()
          .get(`reservation-${key}`)
          .pttl(`reservation-${key}`)
          .exec();
        this.record('state', { key, value, left, from });
      }
    } finally {
      client.disconnect();
    }
  }

  take(line) {
    if (line === '+OK') {
      this.ready();
      return;
    }
    const match = /^\+(\d+\.\d+) \[\d+ (\S+)\] (.*)$/.exec(line);
    if (!match) return;
    const [, time, source, text] = match;
    const [name, ...args] = wordsOf(text);
    const command = name.toLowerCase();
    if (reading.has(command)) return;
    // Without options it only reads.
    if (command === 'getex' && args.length === 1) return;
    const script = command === 'evalsha' || command === 'eval';
    // A script with more than one key belongs to the workers, and is about what the lock guards.
    if (script && args[1] !== '1') return;
    const key = script ? args[2] : args[0];
    const wipes = command === 'flushall' || command === 'flushdb';
    if (!wipes && !(key && key.startsWith('reservation-'))) return;
    const t = this.toOurClock(Number(time) * 1000);
    const resource = wipes ? null : key.slice('reservation-'.length);
    const inner = source === 'lua';
    if (script) this.record('script', { key: resource, value: args[3], source }, t);
    else this.record('command', { key: resource, command, args: args.slice(1), inner, source }, t);
  }

  toOurClock(wall) {
    if (this.offset === null || now() - this.measured > OFFSET_LASTS) {
      this.offset = wallOffset();
      this.measured = now();
    }
    return wall + this.offset;
  }
}

/** The quoted words of a line of MONITOR. */
function wordsOf(text) {
  return Array.from(text.matchAll(/"((?:[^"\\]|\\.)*)"/g), ([, word]) =>
    word.replace(/\\(x[0-9a-f]{2}|.)/g, (_, code) =>
      code.length === 3 ? String.fromCharCode(Number.parseInt(code.slice(1), 16)) : code,
    ),
  );
}

module.exports = { Monitor };
