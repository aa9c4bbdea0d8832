// Reservations whose redis is found through a kit's sentinels, and looks at the servers behind these.
'use strict';

const { makeReservation } = require('../../support/reservation');
const { startSentinels } = require('./sentinels');

/**
 * As startSentinels, with sentinels that ask often enough whether a server still answers. As they are, they ask once in
 * `downAfter`, where that is less than a second: each answer then comes at the very end of its time, and about every
 * other failover is followed by another one that nobody wanted. `periods`: more of what SENTINEL DEBUG may set.
 */
async function startSteadySentinels(t, options, periods = {}) {
  const kit = await startSentinels(t, options);
  const all = Object.entries({ 'ping-period': 150, ...periods }).flat();
  // Unknown before redis 7.0, where they are as they are.
  const set = (sentinel) => sentinel.command('SENTINEL', 'DEBUG', ...all).catch(() => {});
  await Promise.all(kit.sentinels.map(set));
  return kit;
}

/** As whom and through whom clients of this kit come: the password, and the constructor's options. */
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

/** As makeReservation, for the master that the kit's sentinels name; what `settings` says comes first. */
function throughSentinels(t, kit, settings = {}) {
  const { password, options } = accessTo(kit);
  const nowhere = { host: null, port: null, password };
  return makeReservation(t, nowhere, { ...settings, options: { ...options, ...settings.options } });
}

const keyOf = (resource) => `reservation-${resource}`;

/** What a node has under the keys of these resources. */
async function valuesOn(node, resources) {
  return node.command('MGET', ...resources.map(keyOf));
}

/**
 * Whether, on this node, the lease of each was begun or renewed after that moment (of performance.now()): it has more
 * left than it could have otherwise. `ttl`: of them all, in seconds.
 */
async function areRenewedSince(node, resources, moment, ttl) {
  const left = await Promise.all(resources.map((resource) => node.command('PTTL', keyOf(resource))));
  const since = performance.now() - moment;
  return left.every((ms) => ms > Math.max(0, 1000 * ttl - since));
}

/** How many connections of that name the node has. */
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
