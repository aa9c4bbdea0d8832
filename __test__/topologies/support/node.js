// One redis process of a topology: a server, a sentinel or a node of a cluster, with a configuration file (which sentinels
// rewrite), over TCP, TLS or a unix socket, for any user, by any of the programs in scripts/servers/list.js.
'use strict';

const { spawn, spawnSync } = require('node:child_process');
const crypto = require('node:crypto');
const { once } = require('node:events');
const fs = require('node:fs');
const net = require('node:net');
const os = require('node:os');
const path = require('node:path');
const tls = require('node:tls');
const Redis = require('ioredis');
const { findRedisServer } = require('../../../scripts/setup/redis-server');
const { provideServer, servers } = require('../../../scripts/servers/list');
const { reap, removeAtEnd, removeNow } = require('../../support/reaper');
const { until, within } = require('../../support/wait');
const { certificates } = require('./certificates');
const { host, withFreePorts } = require('./ports');

/** The user of the kit itself where the default user is off. It may do everything. */
const operator = { username: 'operator', password: crypto.randomBytes(16).toString('hex') };

/**
 * Starts one server on a free port; see Node for the options. `t`: the test's context (or null): it ends with it.
 */
async function startNode(t, options = {}) {
  return withFreePorts(1, async ([port]) => {
    const node = new Node({ port, ...options });
    if (t) t.after(() => node.stop());
    await node.start();
    return node;
  });
}

class Node {
  /**
   * `config`: directives by name: a value, or a list of values for as many lines. `password`: of the default user.
   * `acl`: `{ username, password, rules }`, a user that is there from the start; the default user is then off.
   * `tls`: `{ certificate, ca, clients }`: the names of a certificate and an authority in certificates.js ('server'
   * and 'ca'), and tls-auth-clients ('no'). `sentinel`: run as one. `server`: a name of scripts/servers/list.js.
   * `files`: what is to lie in its folder beforehand: `{ name: text }`.
   */
  constructor({ port, config = {}, password = '', acl, tls: secure, sentinel = false, server, files = {} }) {
    Object.assign(this, { host, port, password, acl, sentinel, server });
    this.tls = secure && { certificate: 'server', ca: 'ca', clients: 'no', ...secure };
    this.socketPath = ''; // set where it listens only on a socket
    this.config = config;
    this.dir = fs.mkdtempSync(path.join(os.tmpdir(), 'reservation-node-'));
    removeAtEnd(this.dir);
    this.output = '';
    this.process = null;
    this.paused = false;
    this.clients = new Set();
    this.eyes = null; // the client of command()
    for (const [name, text] of Object.entries(files)) fs.writeFileSync(path.join(this.dir, name), text);
  }

  get pid() {
    return this.process && this.process.pid;
  }

  get address() {
    return `${this.host}:${this.port}`;
  }

  /** Whether it runs and is not paused. */
  get awake() {
    return this.process !== null && !this.paused;
  }

  /** What a child process needs to find this server. */
  get environment() {
    return { REDIS_HOST: this.host, REDIS_PORT: String(this.port) };
  }

  /** Starts the program, also again after `kill()`: same port, same folder, the configuration as it was left. */
  async start() {
    const file = path.join(this.dir, 'node.conf');
    if (!fs.existsSync(file)) fs.writeFileSync(file, this.configuration());
    this.output = '';
    const args = this.sentinel ? [file, '--sentinel'] : [file];
    const child = spawn(programOf(this.server), args, {
      stdio: ['ignore', 'pipe', 'pipe'],
      argv0: this.sentinel ? 'redis-sentinel' : 'redis-server',
    });
    this.process = child;
    this.paused = false;
    this.ended = once(child, 'exit'); // from the start, since it may end before a test asks
    const keep = (text) => {
      this.output = (this.output + text).slice(-20000);
    };
    child.stdout.setEncoding('utf8').on('data', keep);
    child.stderr.setEncoding('utf8').on('data', keep);
    reap(child);
    try {
      await this.whenReady(child);
    } catch (error) {
      await this.kill();
      throw error;
    }
  }

  configuration() {
    const { port } = this;
    const lines = { bind: `${host} -::1`, dir: this.dir, logfile: '""', ...this.passwords() };
    // Serves a new replica at once, not after the five seconds in which others might join.
    const plain = { save: '""', appendonly: 'no', 'repl-diskless-sync-delay': '0' };
    Object.assign(lines, this.sentinel ? {} : plain, this.tls ? this.tlsLines() : { port }, this.config);
    return Object.entries(lines)
      .flatMap(([name, values]) => [values].flat().map((value) => `${name} ${value}\n`))
      .join('');
  }

  tlsLines() {
    const [certFile, keyFile] = this.layCertificate(this.tls.certificate);
    return {
      port: 0,
      'tls-port': this.port,
      'tls-cert-file': certFile,
      'tls-key-file': keyFile,
      'tls-ca-cert-file': certificates()[this.tls.ca].certFile,
      'tls-auth-clients': this.tls.clients,
      'tls-replication': 'yes', // also for all connections of a sentinel
    };
  }

  /** Copies a certificate of certificates.js and its key to where this server reads its own. Gives both paths. */
  layCertificate(name) {
    const { cert, key } = certificates()[name];
    const files = ['server.pem', 'server.key'].map((file) => path.join(this.dir, file));
    [cert, key].forEach((text, index) => fs.writeFileSync(files[index], text));
    return files;
  }

  passwords() {
    const user = ({ username, password, rules }) =>
      `${username} on >${password} ${[rules || ['~*', '&*', '+@all']].flat().join(' ')}`;
    if (this.acl) {
      const asOperator = { masteruser: operator.username, masterauth: operator.password };
      const replicates = this.sentinel ? {} : asOperator;
      return { user: ['default off', user(operator), user(this.acl)], ...replicates };
    }
    if (!this.password) return {};
    const secret = JSON.stringify(this.password);
    return { requirepass: secret, ...(this.sentinel ? {} : { masterauth: secret }) };
  }

  async whenReady(child) {
    const served = /^(\+PONG|-NOAUTH|-DENIED|-MASTERDOWN)/;
    const check = async () => {
      if (child.exitCode !== null || child.signalCode !== null) return 'ended';
      return served.test(await this.ask('PING\r\n'));
    };
    const outcome = await until(check, { timeout: 20000, what: `an answer from port ${this.port}` });
    if (outcome === 'ended') throw new Error(`redis-server ended at its start:\n${this.output}`);
  }

  /** The first reply to these bytes; '' for none. */
  ask(bytes) {
    return new Promise((resolve) => {
      const { port, socketPath } = this;
      const place = socketPath ? { path: socketPath } : { port, host };
      const socket = this.tls ? tls.connect({ ...place, ...this.tlsOfTheKit() }) : net.connect(place);
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

  /** The kit accepts any certificate of the server. */
  tlsOfTheKit() {
    const { cert, key } = certificates()[this.tls.ca === 'foreignCa' ? 'foreignClient' : 'client'];
    return { cert, key, rejectUnauthorized: false };
  }

  /** Ends the program as a crash would (or by another signal), and waits for its end. Also works on a paused one. */
  async kill(signal = 'SIGKILL') {
    this.forgetEyes();
    const child = this.process;
    if (!child) return;
    this.process = null;
    this.paused = false;
    child.kill(signal);
    await within(10000, this.ended, `the end of redis-server ${child.pid}`);
  }

  /** Ends the program, removes its folder and closes its clients. */
  async stop() {
    for (const client of this.clients) client.disconnect();
    this.clients.clear();
    await this.kill();
    removeNow(this.dir);
  }

  /** SIGSTOP: connections stay open, the system accepts new ones, nothing is answered. */
  pause() {
    this.process.kill('SIGSTOP');
    this.paused = true;
    this.forgetEyes();
  }

  /** SIGCONT after `pause()`. */
  resume() {
    this.process.kill('SIGCONT');
    this.paused = false;
  }

  /** An ioredis client of this process, closed with it. It reconnects by itself. */
  client(options = {}) {
    const place = this.socketPath ? { path: this.socketPath } : { host, port: this.port };
    const credentials = this.acl ? operator : { password: this.password || undefined };
    const client = new Redis({
      ...place,
      ...credentials,
      ...(this.tls ? { tls: this.tlsOfTheKit() } : {}),
      enableReadyCheck: false,
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

  /** One command of the kit, on a lasting connection: `await node.command('CLUSTER', 'NODES')`. */
  async command(name, ...args) {
    if (!this.eyes) {
      const eyes = this.client({ maxRetriesPerRequest: 0, retryStrategy: () => null, commandTimeout: 5000 });
      eyes.once('end', () => {
        if (this.eyes === eyes) this.eyes = null;
      });
      this.eyes = eyes;
    }
    return this.eyes.call(name, ...args);
  }

  forgetEyes() {
    if (this.eyes) this.eyes.disconnect();
    this.eyes = null;
  }

  /** From now on it shows another certificate of certificates.js to new connections. */
  async useCertificate(name) {
    const [certFile] = this.layCertificate(name);
    // It reads both files again. Other paths would take two commands before redis 7.0, and the files must match.
    await this.command('CONFIG', 'SET', 'tls-cert-file', certFile);
  }
}

const programs = new Map();

/** The program of a server of scripts/servers/list.js, or the one that all tests use: REDIS_SERVER, or on PATH. */
function programOf(name) {
  if (!programs.has(name)) programs.set(name, name ? programNamed(name) : findRedisServer());
  const program = programs.get(name);
  if (!program) throw new Error('No redis-server found: `npm run test:topologies` installs one.');
  return program;
}

function programNamed(name) {
  const entry = servers.find((server) => server.name === name);
  if (!entry)
    throw new Error(`No server ${name}; there are ${servers.map((server) => server.name).join(', ')}.`);
  return provideServer(entry).program;
}

/** Whether this server was built with TLS: then it reports the missing certificate, not the option tls-port. */
function hasTls(name) {
  const args = ['--port', '0', '--tls-port', '1', '--save', ''];
  const { stdout, stderr } = spawnSync(programOf(name), args, {
    encoding: 'utf8',
    cwd: os.tmpdir(),
    timeout: 10000,
  });
  return /No tls-cert-file configured|Failed to configure TLS/.test(stdout + stderr);
}

/** For the option `skip` of a test that needs TLS: false, or why it cannot run here. */
function withoutTls(name) {
  return !hasTls(name) && 'this redis-server was built without TLS';
}

module.exports = { Node, startNode, programOf, hasTls, withoutTls, operator };
