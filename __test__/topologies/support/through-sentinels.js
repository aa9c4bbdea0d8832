// Reservations that find redis through the sentinels of a kit, and views of the servers behind these.
'use strict';

const { makeReservation } = require('../../support/reservation');
const { startSentinels } = require('./sentinels');

/**
 * As startSentinels, with sentinels that ping often. By default they ping once in `downAfter` if that is less than a second: an
 * answer then comes just before its limit, and about every second failover is followed by an unwanted one. `periods`: more
 * periods for SENTINEL DEBUG.
 */
async function startSteadySentinels(t, options, periods = {}) {
  const kit = await startSentinels(t, options);
  const all = Object.entries({ 'ping-period': 150, ...periods }).flat();
  // Redis before 7.0 does not have it, and keeps its defaults.
  const set = (sentinel) => sentinel.command('SENTINEL', 'DEBUG', ...all).catch(() => {});
  await Promise.all(kit.sentinels.map(set));
  return kit;
}

/** The access of clients of this kit: the password, and the constructor's options. */
function accessTo(kit) {
  const options = { sentinels: kit.addresses, name: kit.name };
  if (kit.sentinelPassword) options.sentinelPassword = kit.sentinelPassword;
  if (kit.sentinelAcl) {
    options.sentinelUsername = kit.sentinelAcl.username;
    options.sentinelPassword = kit.sentinelAcl.password;
  }
  if (kit.acl) options.username = kit.acl.username;
  return { password: kit.acl ? kit.acl.password : kit.password, options };
}

/** As makeReservation, for the master that the kit's sentinels name. `settings` takes precedence. */
function throughSentinels(t, kit, settings = {}) {
  const { password, options } = accessTo(kit);
  const nowhere = { host: null, port: null, password };
  return makeReservation(t, nowhere, { ...settings, options: { ...options, ...settings.options } });
}

const keyOf = (resource) => `reservation-${resource}`;

/** The values of the keys of these resources on a node. */
async function valuesOn(node, resources) {
  return node.command('MGET', ...resources.map(keyOf));
}

/**
 * Whether each key on this node was set or renewed after that moment (of performance.now()): its ttl is longer than it could be
 * otherwise. `ttl`: that of all, in seconds.
 */
async function areRenewedSince(node, resources, moment, ttl) {
  const left = await Promise.all(resources.map((resource) => node.command('PTTL', keyOf(resource))));
  const since = performance.now() - moment;
  return left.every((ms) => ms > Math.max(0, 1000 * ttl - since));
}

/** How many connections with that name the node has. */
async function connectionsNamed(node, name) {
  const list = await node.command('CLIENT', 'LIST');
  return list.split('\n').filter((line) => line.includes(` name=${name} `)).length;
}

module.exports = {
  startSteadySentinels,
  accessTo,
  throughSentinels,
  keyOf,
  valuesOn,
  areRenewedSince,
  connectionsNamed,
};
