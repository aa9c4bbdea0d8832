// The redis side of a torture run's history: every command on a lock's key, in redis's own order and at its own time,
// as MONITOR tells it on a direct connection.
'use strict';

const { once } = require('node:events');
const net = require('node:net');
const { within } = require('../support/wait');
const { now, wallOffset } = require('./clock');

/** How long a measured offset of redis's clock is believed, in ms. */
const OFFSET_LASTS = 10000;

/** What does not change a key, and is asked all the time. */
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
  /** `record(event, fields, t)` gets what was seen; `keys` are the resources. `onBroken(pid)`: the record has a hole. */
  constructor(server, keys, record, onBroken) {
    this.onBroken = onBroken;
    this.server = server;
    this.keys = keys;
    this.record = record;
    this.socket = null;
    this.wanted = false;
    this.offset = null;
  }

  /** Begins to listen, and records what each key holds then. To be called before anybody else gets at the server. */
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
      // A moment later, so that it is known if the server ended by itself.
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

  /** Expects the connection to end: the server is about to be killed. */
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
    // A script with more than one key is the workers' own, for what the lock guards.
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
