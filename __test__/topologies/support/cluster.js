// A Redis Cluster of real nodes, masters and replicas. Tests can move its slots and end its masters.
'use strict';

const crypto = require('node:crypto');
const { until } = require('../../support/wait');
const { Node, operator } = require('./node');
const { busDistance, host, withFreePorts } = require('./ports');
const { evenRanges, hasSlot, parseNodes, slotCount, slotOf } = require('./slots');

/**
 * Starts it and resolves once every node reports a healthy cluster and every replica follows its master.
 *
 * `masters`: how many, 3. `replicas`: of each, 1. `nodeTimeout`: cluster-node-timeout in ms. `password`, `acl`, `tls`,
 * `config`, `server`: of all nodes, as in node.js.
 */
async function startCluster(t, options = {}) {
  const { masters = 3, replicas = 1 } = options;
  return withFreePorts(masters * (1 + replicas), async (ports) => {
    const cluster = new Cluster(ports, masters, options);
    if (t) t.after(() => cluster.stop());
    try {
      await Promise.all(cluster.nodes.map((node) => node.start()));
      await cluster.waitUntilHealthy();
    } catch (error) {
      await cluster.stop();
      throw error;
    }
    return cluster;
  });
}

class Cluster {
  constructor(ports, masters, { nodeTimeout = 1000, password, acl, tls, config = {}, server }) {
    this.settings = { nodeTimeout, password, acl, tls, config, server };
    const ranges = evenRanges(masters);
    const plan = ports.map((port, index) => ({
      port,
      id: crypto.randomBytes(20).toString('hex'),
      range: ranges[index],
      masterIndex: index < masters ? null : index % masters,
    }));
    /** All nodes, the first masters first; each has its `id`. */
    this.nodes = plan.map(({ port, id }) => this.makeNode(port, id, knownNodes(plan, id)));
  }

  makeNode(port, id, known) {
    const { nodeTimeout, config, ...access } = this.settings;
    const lines = {
      'cluster-enabled': 'yes',
      'cluster-config-file': 'nodes.conf',
      'cluster-node-timeout': nodeTimeout,
      // A replica may take over however long it was cut off: tests cannot wait for the usual limit.
      'cluster-replica-validity-factor': 0,
      'cluster-announce-ip': host,
      ...(access.tls ? { 'tls-cluster': 'yes' } : {}),
      ...config,
    };
    const files = known ? { 'nodes.conf': known } : {};
    return Object.assign(new Node({ port, ...access, config: lines, files }), { id });
  }

  /** The addresses for a client: `[{ host, port }]`, one for each node. */
  get addresses() {
    return this.nodes.map(({ port }) => ({ host, port }));
  }

  get awake() {
    return this.nodes.filter((node) => node.awake);
  }

  slotOf(key) {
    return slotOf(key);
  }

  /** A node as it describes itself, in the form of parseNodes. */
  async selfOf(node) {
    const view = parseNodes(await node.command('CLUSTER', 'NODES'));
    return view.find(({ flags }) => flags.includes('myself'));
  }

  /** All nodes that can answer, as they describe themselves: `[{ node, flags, epoch, ranges, … }]`. */
  async selves() {
    return Promise.all(this.awake.map(async (node) => ({ ...(await this.selfOf(node)), node })));
  }

  /** The masters that can answer, with or without slots. */
  async masters() {
    const selves = await this.selves();
    return selves.filter(({ flags }) => flags.includes('master')).map(({ node }) => node);
  }

  /** The node that claims this slot; of two, the one that got it later. */
  async nodeOfSlot(slot) {
    const selves = await this.selves();
    const owners = selves.filter((self) => self.flags.includes('master') && hasSlot(self, slot));
    if (owners.length === 0) throw new Error(`no node that can answer has slot ${slot}`);
    return owners.sort((one, other) => other.epoch - one.epoch)[0].node;
  }

  async nodeOf(key) {
    return this.nodeOfSlot(slotOf(key));
  }

  /** A master that does not have this slot. */
  async otherMaster(slot) {
    const owner = await this.nodeOfSlot(slot);
    return (await this.masters()).find((node) => node !== owner);
  }

  /** The replicas of a node that can answer. */
  async replicasOf(master) {
    const selves = await this.selves();
    return selves.filter(({ masterId }) => masterId === master.id).map(({ node }) => node);
  }

  /** A command for a key, sent to the node that has its slot: `cluster.command(key, 'GET', key)`. */
  async command(key, name, ...args) {
    return (await this.nodeOf(key)).command(name, ...args);
  }

  /**
   * Begins to move the slot to the node `to`: its node answers with ASK for keys that it does not have. Resolves with
   * `{ slot, from, to }`, for migrateKeys and finishMove (or cancelMove).
   */
  async beginMove(slot, to) {
    const from = await this.nodeOfSlot(slot);
    if (from === to) throw new Error(`slot ${slot} is at ${to.address} already`);
    await to.command('CLUSTER', 'SETSLOT', slot, 'IMPORTING', from.id);
    await from.command('CLUSTER', 'SETSLOT', slot, 'MIGRATING', to.id);
    return { slot, from, to };
  }

  /** Moves the keys of the slot, or only `keys`, to the other node. The move goes on. */
  async migrateKeys({ slot, from, to }, only) {
    const keys = only || (await from.command('CLUSTER', 'GETKEYSINSLOT', slot, 100000));
    if (keys.length === 0) return 0;
    const { password, acl } = this.settings;
    const plain = password ? ['AUTH', password] : [];
    const credentials = acl ? ['AUTH2', operator.username, operator.password] : plain;
    await from.command('MIGRATE', host, to.port, '', 0, 5000, ...credentials, 'KEYS', ...keys);
    return keys.length;
  }

  /** Moves the remaining keys and then the slot. Resolves once all nodes know. */
  async finishMove(move) {
    const { slot, from, to } = move;
    // A key that was created in between would be lost with the slot. Redis then refuses, and this tries again.
    await until(
      async () => {
        await this.migrateKeys(move);
        // The new owner first, so that there is an owner at every moment.
        await to.command('CLUSTER', 'SETSLOT', slot, 'NODE', to.id);
        return from.command('CLUSTER', 'SETSLOT', slot, 'NODE', to.id);
      },
      { what: `slot ${slot} given away` },
    );
    const rest = (await this.masters()).filter((node) => node !== from && node !== to);
    await Promise.all(rest.map((node) => node.command('CLUSTER', 'SETSLOT', slot, 'NODE', to.id)));
    await this.waitUntilKnown(slot, to);
  }

  /** Cancels the move. Keys that have moved are lost to clients until another move. */
  async cancelMove({ slot, from, to }) {
    await from.command('CLUSTER', 'SETSLOT', slot, 'STABLE');
    await to.command('CLUSTER', 'SETSLOT', slot, 'STABLE');
  }

  async moveSlot(slot, to) {
    await this.finishMove(await this.beginMove(slot, to));
  }

  /** Resolves once all nodes that can answer redirect clients of this slot to `owner`. */
  async waitUntilKnown(slot, owner, { timeout = 20000 } = {}) {
    const knows = async (node) => {
      const view = parseNodes(await node.command('CLUSTER', 'NODES'));
      const owners = view.filter((one) => hasSlot(one, slot));
      return owners.length === 1 && owners[0].id === owner.id;
    };
    const known = async () => (await Promise.all(this.awake.map(knows))).every(Boolean);
    await until(known, { timeout, what: `slot ${slot} known to be at ${owner.address}` });
  }

  /** SIGKILL for the master of this slot. Resolves with the node, whose `start()` starts it again. */
  async killMasterOf(slot) {
    const master = await this.nodeOfSlot(slot);
    await master.kill();
    return master;
  }

  /** SIGSTOP for the master of this slot. Resolves with the node, whose `resume()` continues it. */
  async pauseMasterOf(slot) {
    const master = await this.nodeOfSlot(slot);
    master.pause();
    return master;
  }

  /**
   * Resolves with the new master of the slot, instead of `from`, once it has the role, all others know, and the cluster serves
   * again.
   */
  async waitForPromotion(slot, from, { timeout = 30000 } = {}) {
    const promoted = async () => {
      const owner = await this.nodeOfSlot(slot);
      return owner !== from && owner;
    };
    const owner = await until(promoted, { timeout, what: `a master of slot ${slot} for ${from.address}` });
    await this.waitUntilKnown(slot, owner, { timeout });
    await until(() => this.isServing(), { timeout, what: 'a cluster that serves again' });
    return owner;
  }

  /** A planned failover (CLUSTER FAILOVER). Resolves with the replica, which is then the master. */
  async failover(slot) {
    await this.waitUntilHealthy(); // a master ignores a replica that it does not yet know as its own
    const from = await this.nodeOfSlot(slot);
    const [replica] = await this.replicasOf(from);
    await replica.command('CLUSTER', 'FAILOVER');
    return this.waitForPromotion(slot, from);
  }

  /** Adds a node without slots. Resolves with it once all know it. */
  async addNode() {
    const node = await withFreePorts(1, async ([port]) => {
      const made = this.makeNode(port, null, null);
      await made.start().catch(async (error) => {
        await made.stop();
        throw error;
      });
      return made;
    });
    const others = this.awake;
    this.nodes.push(node);
    node.id = await node.command('CLUSTER', 'MYID');
    await Promise.all(others.map((other) => other.command('CLUSTER', 'MEET', host, node.port)));
    await this.waitUntilHealthy();
    return node;
  }

  /** Whether each node that can answer reports that all slots are served. */
  async isServing() {
    const answers = await Promise.all(this.awake.map((node) => node.command('CLUSTER', 'INFO')));
    return answers.every(
      (text) => text.includes('cluster_state:ok') && text.includes(`cluster_slots_ok:${slotCount}`),
    );
  }

  /** Resolves once the cluster serves, replicas follow, and all nodes that can answer agree on the roles. */
  async waitUntilHealthy({ timeout = 30000 } = {}) {
    const follows = async (node) => {
      const [role, , , state] = await node.command('ROLE');
      return role === 'master' || state === 'connected';
    };
    const healthy = async () =>
      (await this.isServing()) &&
      (await this.isAgreed()) &&
      (await Promise.all(this.awake.map(follows))).every(Boolean);
    await until(healthy, { timeout, what: 'a cluster that serves, with replicas that follow' });
  }

  /** Whether all nodes that can answer agree which are masters, and whose replicas the others are. */
  async isAgreed() {
    const { awake } = this;
    const texts = await Promise.all(awake.map((node) => node.command('CLUSTER', 'NODES')));
    const views = texts.map(parseNodes);
    const selves = views.map((view) => view.find(({ flags }) => flags.includes('myself')));
    const isSame = (self) => (one) =>
      one.id === self.id && one.masterId === self.masterId && one.linked && !one.flags.some(isDoubt);
    return views.every((view) => selves.every((self) => view.some(isSame(self))));
  }

  async stop() {
    await Promise.all(this.nodes.map((node) => node.stop()));
  }
}

const isDoubt = (flag) => flag.startsWith('fail') || flag === 'handshake' || flag === 'noaddr';

/**
 * The nodes.conf of one node, with which it knows all others and their slots from the start, as after a restart: only the two
 * seconds that redis waits after every start remain.
 */
function knownNodes(plan, ownId) {
  const lines = plan.map(({ port, id, range, masterIndex }, index) => {
    const role = masterIndex === null ? 'master' : 'slave';
    const flags = id === ownId ? `myself,${role}` : role;
    const master = masterIndex === null ? '-' : plan[masterIndex].id;
    const epoch = (masterIndex === null ? index : masterIndex) + 1;
    const slots = range && masterIndex === null ? ` ${range.first}-${range.last}` : '';
    return `${id} ${host}:${port}@${port + busDistance} ${flags} ${master} 0 0 ${epoch} connected${slots}\n`;
  });
  return `${lines.join('')}vars currentEpoch ${plan.length} lastVoteEpoch 0\n`;
}

module.exports = { startCluster };
