// A master, its replicas and their sentinels: real processes that fail over by themselves.
'use strict';

const crypto = require('node:crypto');
const { until } = require('../../support/wait');
const { Node, operator } = require('./node');
const { host, withFreePorts } = require('./ports');

/**
 * Starts them all and resolves once every sentinel knows of every other and of healthy replicas.
 *
 * `name`: of the master, to the sentinels. `replicas` and `sentinels`: how many, 2 and 3; the quorum is the majority.
 * `downAfter` and `failoverTimeout`: ms, as in sentinel.conf. `password` or `acl`: of the data nodes (see node.js).
 * `sentinelPassword` or `sentinelAcl`: of the sentinels. `tls`: `{}` or more (see node.js), for all of them.
 * `config`: more directives for the data nodes. `server`: which program (see node.js).
 */
async function startSentinels(t, options = {}) {
  const { replicas = 2, sentinels = 3 } = options;
  return withFreePorts(1 + replicas + sentinels, async (ports) => {
    const kit = new Sentinels(ports, options);
    if (t) t.after(() => kit.stop());
    try {
      await kit.start();
    } catch (error) {
      await kit.stop();
      throw error;
    }
    return kit;
  });
}

class Sentinels {
  constructor(ports, options) {
    const { name = 'mymaster', replicas = 2, downAfter = 600, failoverTimeout = 3000 } = options;
    const { password, acl, sentinelPassword, sentinelAcl, tls, config, server } = options;
    Object.assign(this, { name, downAfter, failoverTimeout, password, acl, sentinelPassword, sentinelAcl });
    const [masterPort, ...others] = ports;
    const replicaOf = { replicaof: `${host} ${masterPort}` };
    const data = { password, acl, tls, server };
    /** All data nodes, the first master first. */
    this.nodes = [
      new Node({ port: masterPort, ...data, config }),
      ...others
        .slice(0, replicas)
        .map((port) => new Node({ port, ...data, config: { ...replicaOf, ...config } })),
    ];
    const identities = others
      .slice(replicas)
      .map((port) => ({ port, id: crypto.randomBytes(20).toString('hex') }));
    /** The sentinels, as nodes. */
    this.sentinels = identities.map(({ port, id }) => {
      const watch = { sentinel: this.watchLines(id, identities) };
      const access = { password: sentinelPassword, acl: sentinelAcl };
      return new Node({ port, sentinel: true, tls, server, ...access, config: watch });
    });
  }

  /**
   * What each sentinel knows from the start. To find the others by itself, through the master, would take two seconds and more.
   */
  watchLines(id, identities) {
    const { name } = this;
    const [master, ...replicas] = this.nodes;
    const quorum = Math.floor(identities.length / 2) + 1;
    return [
      `myid ${id}`,
      `monitor ${name} ${host} ${master.port} ${quorum}`,
      `down-after-milliseconds ${name} ${this.downAfter}`,
      `failover-timeout ${name} ${this.failoverTimeout}`,
      `parallel-syncs ${name} ${this.nodes.length}`,
      ...this.credentialLines(),
      ...replicas.map(({ port }) => `known-replica ${name} ${host} ${port}`),
      ...identities
        .filter((other) => other.id !== id)
        .map((other) => `known-sentinel ${name} ${host} ${other.port} ${other.id}`),
    ];
  }

  credentialLines() {
    const { name, password, acl, sentinelPassword, sentinelAcl } = this;
    const lines = [];
    if (acl) lines.push(`auth-user ${name} ${operator.username}`, `auth-pass ${name} ${operator.password}`);
    else if (password) lines.push(`auth-pass ${name} ${JSON.stringify(password)}`);
    if (sentinelAcl) {
      lines.push(`sentinel-user ${operator.username}`, `sentinel-pass ${operator.password}`);
    } else if (sentinelPassword) lines.push(`sentinel-pass ${JSON.stringify(sentinelPassword)}`);
    return lines;
  }

  async start() {
    const [master, ...replicas] = this.nodes;
    await master.start(); // first: a replica without its master tries again only after a second
    await Promise.all(replicas.map((node) => node.start()));
    await until(() => this.isReplicated(master), { timeout: 15000, what: 'the replicas in step' });
    // Only now: a sentinel keeps its first view of a replica for ten seconds.
    await Promise.all(this.sentinels.map((node) => node.start()));
    await Promise.all(this.sentinels.map((node) => hurry(node)));
    await this.waitUntilHealthy();
  }

  /** The addresses for a client: `[{ host, port }]`, one for each sentinel. */
  get addresses() {
    return this.sentinels.map(({ port }) => ({ host, port }));
  }

  get everyone() {
    return [...this.nodes, ...this.sentinels];
  }

  /** The node that most of the sentinels that can answer name as the master. */
  async master() {
    const awake = this.sentinels.filter((node) => node.awake);
    const ports = await Promise.all(awake.map((sentinel) => this.masterPort(sentinel)));
    const votes = (node) => ports.filter((port) => port === node.port).length;
    const node = this.nodes.find((one) => votes(one) * 2 > awake.length);
    if (!node) throw new Error(`the sentinels do not agree on a master: ${ports.join(', ')}`);
    return node;
  }

  async masterPort(sentinel) {
    const answer = await sentinel.command('SENTINEL', 'GET-MASTER-ADDR-BY-NAME', this.name);
    return Number(answer[1]);
  }

  /** The nodes that are up and not the master. */
  async replicas() {
    const master = await this.master();
    return this.nodes.filter((node) => node !== master && node.awake);
  }

  /** SIGKILL for the current master. Resolves with the node, whose `start()` starts it again. */
  async killMaster() {
    const master = await this.master();
    await master.kill();
    return master;
  }

  /** SIGSTOP for the current master. Resolves with the node, whose `resume()` continues it. */
  async pauseMaster() {
    const master = await this.master();
    master.pause();
    return master;
  }

  /** A planned failover by a sentinel. Resolves with the new master. */
  async failover() {
    const from = await this.master();
    const sentinel = this.sentinels.find((node) => node.awake);
    await until(() => sentinel.command('SENTINEL', 'FAILOVER', this.name), {
      timeout: 15000,
      interval: 100, // refused while the last one is still under way
      what: 'a failover that a sentinel agrees to',
    });
    return this.waitForFailover(from);
  }

  /** Resolves with the new master once all sentinels name it instead of `from`, and it has the role. */
  async waitForFailover(from, { timeout = 30000 } = {}) {
    const awake = this.sentinels.filter((node) => node.awake);
    const moved = async () => {
      const ports = await Promise.all(awake.map((sentinel) => this.masterPort(sentinel)));
      const [port] = ports;
      if (port === from.port || ports.some((other) => other !== port)) return false;
      const node = this.nodes.find((one) => one.port === port);
      const [role] = await node.command('ROLE');
      return role === 'master' && node;
    };
    return until(moved, { timeout, what: `a master in the place of ${from.address}` });
  }

  /** Whether all other nodes that can answer follow this master and are in sync. */
  async isReplicated(master) {
    const [, offset] = await master.command('ROLE');
    const others = this.nodes.filter((node) => node !== master && node.awake);
    const roles = await Promise.all(others.map((node) => node.command('ROLE')));
    return roles.every(
      ([role, , port, state, seen]) =>
        role === 'slave' && Number(port) === master.port && state === 'connected' && seen >= offset,
    );
  }

  /** Resolves once the sentinels see every running process as up: after a failover, before the next one. */
  async waitUntilHealthy({ timeout = 30000 } = {}) {
    const replicaCount = this.nodes.length - 1;
    const awake = this.sentinels.filter((node) => node.awake);
    const isWell = async (sentinel) => {
      const quorum = await sentinel.command('SENTINEL', 'CKQUORUM', this.name);
      const listed = await sentinel.command('SENTINEL', 'REPLICAS', this.name);
      const replicas = listed.map(fields);
      const up = replicas.filter((one) => one.flags === 'slave' && one['master-link-status'] === 'ok');
      const gone = this.nodes.filter((node) => !node.awake).length;
      return quorum.startsWith(`OK ${awake.length} usable`) && up.length >= replicaCount - gone;
    };
    const healthy = async () => {
      const answers = await Promise.all(awake.map(isWell));
      return answers.every(Boolean) && this.isReplicated(await this.master());
    };
    await until(healthy, { timeout, interval: 20, what: 'sentinels that know of all and find them well' });
  }

  async stop() {
    await Promise.all(this.everyone.map((node) => node.stop()));
  }
}

/**
 * By default a sentinel checks once a second, and the role of a replica every ten seconds, which is most of the time of a
 * failover. Since redis 7.0 the periods can be set. This makes them shorter, and changes no decision.
 */
async function hurry(sentinel) {
  // The ping period is at most down-after, so one late answer would mark a node as down. So ping more often.
  const periods = { 'ping-period': 150, 'info-period': 500, 'ask-period': 200, 'publish-period': 500 };
  for (const [name, ms] of Object.entries(periods)) {
    await sentinel.command('SENTINEL', 'DEBUG', name, ms).catch(() => {});
  }
}

/** A flat list of names and values as an object. */
function fields(list) {
  const pairs = list.flatMap((name, place) => (place % 2 === 0 ? [[name, list[place + 1]]] : []));
  return Object.fromEntries(pairs);
}

module.exports = { startSentinels };
