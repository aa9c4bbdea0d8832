// Real redis-servers for tests: private ones on free loopback ports, each in its own folder. They can be killed, stopped,
// continued and restarted, and never outlive the test.
'use strict';

const { spawn } = require('node:child_process');
const { once } = require('node:events');
const fs = require('node:fs');
const net = require('node:net');
const os = require('node:os');
const path = require('node:path');
const Redis = require('ioredis');
const { findRedisServer } = require('../../scripts/setup/redis-server');
const { reap, removeAtEnd, removeNow } = require('./reaper');
const { until, within } = require('./wait');

const host = '127.0.0.1';
let program; // looked up once a process

/**
 * Starts a server and resolves once it answers.
 *
 * `t`: the context of the test (or null). The server ends with that test.
 * `options.args`: more of redis-server's own arguments, e.g. `['--maxmemory', '1mb']`.
 * `options.password`: the password that it requires; `client()` and `command()` use it.
 * `options.port`: a fixed port instead of a free one.
 * `options.ready`: what to wait for: 'pong' (it serves), or 'answer' (anything, LOADING too).
 */
async function startServer(t, options = {}) {
  const server = new Server(options);
  if (t) t.after(() => server.stop());
  await server.start();
  return server;
}

class Server {
  constructor({ args = [], password = '', port, ready = 'pong' }) {
    this.host = host;
    this.args = args;
    this.password = password;
    this.port = port;
    this.ready = ready;
    this.dir = fs.mkdtempSync(path.join(os.tmpdir(), 'reservation-redis-'));
    removeAtEnd(this.dir);
    this.output = '';
    this.process = null;
    this.clients = new Set();
  }

  get pid() {
    return this.process && this.process.pid;
  }

  /** What a child process needs to find this server. */
  get environment() {
    return { REDIS_HOST: this.host, REDIS_PORT: String(this.port) };
  }

  /** Starts the program again after `kill()` or `stop()`; same port, whatever data the folder has. */
  async start({ args = [], ready = this.ready } = {}) {
    const fixedPort = this.port;
    for (let attempt = 1; ; attempt += 1) {
      this.port = fixedPort || (await freePort());
      this.launch(args);
      try {
        await this.whenReady(ready);
        return;
      } catch (error) {
        await this.kill();
        // Another program may have taken the free port first.
        if (fixedPort || attempt === 5 || !/Address already in use/.test(this.output)) throw error;
      }
    }
  }

  launch(args) {
    program ??= findRedisServer();
    if (!program) throw new Error('No redis-server found: `npm test` and `npm run demo` install one.');
    const own = ['--bind', host, '--port', String(this.port), '--dir', this.dir];
    const plain = ['--save', '', '--appendonly', 'no'];
    const secret = this.password ? ['--requirepass', this.password] : [];
    this.output = '';
    const child = spawn(program, [...own, ...plain, ...secret, ...this.args, ...args], {
      stdio: ['ignore', 'pipe', 'pipe'],
      argv0: 'redis-server',
    });
    this.process = child;
    // Listens from the start, since it may end before a test asks.
    this.ended = once(child, 'exit');
    const keep = (text) => {
      this.output = (this.output + text).slice(-20000);
    };
    child.stdout.setEncoding('utf8').on('data', keep);
    child.stderr.setEncoding('utf8').on('data', keep);
    reap(child);
  }

  async whenReady(ready) {
    const child = this.process;
    const served = ready === 'pong' ? /^(\+PONG|-NOAUTH|-DENIED)/ : /^[+-]/;
    const check = async () => {
      if (child.exitCode !== null || child.signalCode !== null) return 'ended';
      // Another program may have taken the free port first. It would answer instead, until this server ends.
      return /Server initialized/.test(this.output) && served.test(await ask(this.port, 'PING\r\n'));
    };
    const outcome = await until(check, { timeout: 20000, what: `an answer from port ${this.port}` });
    if (outcome === 'ended') throw new Error(`redis-server ended at its start:\n${this.output}`);
  }

  /** Ends the program as a crash would, and waits for its end. Also works on a paused one. */
  async kill() {
    await this.signalEnd('SIGKILL');
  }

  /** Ends the program, removes its folder and closes its clients. */
  async stop() {
    for (const client of this.clients) client.disconnect();
    this.clients.clear();
    await this.signalEnd('SIGKILL');
    removeNow(this.dir);
  }

  /** Ends the program as an operator would (SIGTERM); it saves only if save points are set. */
  async shutdown() {
    await this.signalEnd('SIGTERM');
  }

  async signalEnd(signal) {
    const child = this.process;
    if (!child) return;
    this.process = null;
    child.kill(signal);
    await within(10000, this.ended, `the end of redis-server ${child.pid}`);
  }

  /** SIGSTOP: connections stay open, the system accepts new ones, nothing is answered. */
  pause() {
    this.process.kill('SIGSTOP');
  }

  /** SIGCONT after `pause()`. */
  resume() {
    this.process.kill('SIGCONT');
  }

  /**
   * Ends the program and starts it again on the same port. `data`: whether the keys are still
   * there afterwards. `args` come on top of the first ones. `down`: ms to stay away.
   */
  async restart({ data = false, args = [], down = 0, ready } = {}) {
    if (data) await this.command('SAVE');
    await this.kill();
    if (!data) {
      for (const name of fs.readdirSync(this.dir)) {
        fs.rmSync(path.join(this.dir, name), { recursive: true, force: true });
      }
    }
    if (down > 0) await new Promise((resolve) => setTimeout(resolve, down));
    await this.start({ args, ready });
  }

  /** An ioredis client of this server, closed with it. It reconnects by itself. */
  client(options = {}) {
    const client = new Redis({
      host: this.host,
      port: this.port,
      password: this.password || undefined,
      maxRetriesPerRequest: null,
      retryStrategy: () => 50,
      disconnectTimeout: 50, // otherwise its timer keeps the test alive for two seconds
      ...options,
    });
    client.on('error', () => {}); // tests cause outages on purpose
    this.clients.add(client);
    client.once('end', () => this.clients.delete(client));
    return client;
  }

  /** One command on a connection of its own: `await server.command('CONFIG', 'SET', 'timeout', '1')`. */
  async command(name, ...args) {
    const client = this.client({ maxRetriesPerRequest: 0, retryStrategy: () => null });
    try {
      return await client.call(name, ...args);
    } finally {
      client.disconnect();
    }
  }
}

/** A loopback port on which nothing listens right now. */
async function freePort() {
  const listener = net.createServer();
  listener.listen(0, host);
  await once(listener, 'listening');
  const { port } = listener.address();
  listener.close();
  await once(listener, 'close');
  return port;
}

/** The first reply to these bytes; '' for none. */
function ask(port, bytes) {
  return new Promise((resolve) => {
    const socket = net.connect({ port, host });
    const finish = (text) => {
      socket.destroy();
      resolve(text);
    };
    socket.setTimeout(1000, () => finish(''));
    socket.on('error', () => finish(''));
    socket.on('close', () => finish(''));
    socket.on('data', (data) => finish(data.toString()));
    socket.write(bytes);
  });
}

module.exports = { startServer, freePort };
