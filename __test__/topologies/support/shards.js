// What the cluster tests share: reservations on a cluster, in this process and in others, names whose keys are on a chosen
// shard, and views of all nodes together.
'use strict';

const path = require('node:path');
const { startChild } = require('../../support/child');
const { commandCalls } = require('../../support/commands');
const { makeReservation } = require('../../support/reservation');
const { until, within } = require('../../support/wait');
const { evenRanges, namesInSlots } = require('./slots');

/** For conditions that must come true, however busy the machine is. */
const patient = { timeout: 30000 };

/** A reservation on a cluster. `settings` as in makeReservation; `options` are added to the addresses of the cluster. */
function onCluster(t, cluster, { options, ...settings } = {}) {
  const nowhere = { password: cluster.settings.password };
  return makeReservation(t, nowhere, { ...settings, options: { cluster: cluster.addresses, ...options } });
}

/** `count` names for each of three masters: of the slots that each had at the start. Lists of names, or all of them. */
const namesOfShards = (count, name) =>
  evenRanges(3).map(({ first, last }) => namesInSlots((slot) => slot >= first && slot <= last, count, name));

const keyOf = (resource) => `reservation-${resource}`;

/** The value of the key of a resource, or null. */
const valueOf = (cluster, resource) => cluster.command(keyOf(resource), 'GET', keyOf(resource));

/** The commands that the current masters have run so far, together. (Those of replicas come from replication.) */
async function callsOf(cluster) {
  const all = {};
  for (const node of await cluster.masters()) {
    const calls = await commandCalls({ info: (section) => node.command('INFO', section) });
    for (const [name, count] of Object.entries(calls)) all[name] = (all[name] || 0) + count;
  }
  return all;
}

/** How often one command, or several together, was called. */
async function countOf(cluster, ...names) {
  const calls = await callsOf(cluster);
  return names.reduce((sum, name) => sum + (calls[name] || 0), 0);
}

/** Resolves once the nodes have got so many more tries for a key. */
async function tried(cluster, before, times = 1) {
  const enough = async () => (await countOf(cluster, 'set')) >= before + times;
  await until(enough, { ...patient, what: `${times} tries` });
}

/**
 * Resolves once the replicas have all previous writes. That they follow is not enough: a master sends nothing to a new replica
 * before its first answer.
 */
async function untilCopied(cluster) {
  const copied = async ([name]) => {
    const node = await cluster.nodeOf(keyOf(name));
    await node.command('SET', keyOf(name), 'a mark', 'PX', 5000);
    await until(async () => (await node.command('WAIT', 1, 500)) > 0, { ...patient, what: 'a replica' });
  };
  await Promise.all(namesOfShards(1, (number) => `mark ${number}`).map(copied));
}

/** The connections with this name in CLIENT LIST of a node, as objects of its fields. */
async function clientsNamed(node, name) {
  const text = await node.command('CLIENT', 'LIST');
  return text
    .trim()
    .split('\n')
    .map((line) => Object.fromEntries(line.split(' ').map((field) => field.split(/=(.*)/s).slice(0, 2))))
    .filter((client) => client.name === name);
}

/** A wait that ends with the test at the latest: a pending one would keep the process of the tests alive. */
function wait(t, reservation, resource, options = {}) {
  const waiting = reservation.wait_until_lock(resource, { signal: t.signal, ...options });
  waiting.catch(() => {});
  return waiting;
}

/**
 * A separate process with reservations on the cluster: `call(who, method, ...args)` resolves with the answer of the instance
 * `who`, or rejects with an error of the same code. `losses`: the losses of its instances.
 */
function startWorker(t, cluster, { interval, ttl = 30, by = 'other', password, options } = {}) {
  const settings = { by, interval, ttl, password, options: { cluster: cluster.addresses, ...options } };
  const child = startChild(t, path.join(__dirname, 'shards.child.js'), {
    env: { WORKER: JSON.stringify(settings), JOB_ID: '' },
  });
  const worker = { child, losses: [], calls: new Map(), count: 0 };
  child.messages.listen(({ id, loss, error, value }) => {
    if (loss) return worker.losses.push(loss);
    const { resolve, reject } = worker.calls.get(id);
    return error ? reject(Object.assign(new Error(error.message), { code: error.code })) : resolve(value);
  });
  // A pending answer at the end of a test must not keep the tests waiting.
  child.exited.then(() => {
    const error = child.describe(new Error('it has ended before it has answered'));
    for (const { reject } of worker.calls.values()) reject(error);
  });
  worker.call = (who, method, ...args) => {
    const id = (worker.count += 1);
    const answer = new Promise((resolve, reject) => {
      worker.calls.set(id, { resolve, reject });
      child.send({ id, who, method, args });
    });
    answer.catch(() => {});
    return within(60000, answer, `the answer to ${who}'s ${method}`);
  };
  return worker;
}

module.exports = {
  patient,
  onCluster,
  namesOfShards,
  keyOf,
  valueOf,
  callsOf,
  countOf,
  tried,
  untilCopied,
  clientsNamed,
  wait,
  startWorker,
};
