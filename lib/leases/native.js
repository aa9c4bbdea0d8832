// The native object of an instance: made at the first call that needs it, and replaced when fields have changed. It stands
// for the fields alone, so instances with equal fields share one.
'use strict';

const checked = require('../arguments/values');
const { has_lapsed } = require('../calls/pending');
const { listener } = require('../telling/events');
const { load } = require('../load');
const { key_prefix_from, location_from } = require('../arguments/location');
const log = require('../telling/log');
const { CONSTRUCTOR_OPTIONS } = require('../arguments/options');
const { is_overridden } = require('../calls/overridden');
const { options_of } = require('./state');

const NOTHING = [];

// The last `made`: thousands of instances with equal fields share it.
let latest = null;

/** The native object for the fields as they are now. Throws what the caller's callback should get. */
function native_for(instance, state) {
  if (state.native !== null && unchanged(instance, state.made.fields)) return state.native;
  if (latest === null || !unchanged(instance, latest.fields)) latest = made_from(read(instance), state.made);
  state.made = latest;
  warn_of_interval(instance, state);
  warn_of_trust(instance, state);
  return state.native;
}

/** `made` for fields. Reuses the native object of before if the settings are equal. */
function made_from(fields, made) {
  const settings = settings_from(fields);
  for (const former of [made, latest]) {
    if (former !== null && former.native !== null && alike(settings, former.settings)) {
      return { fields, settings: former.settings, native: former.native };
    }
  }
  const { owner, host, port, heartbeat, renews, ttl, password, options } = settings;
  const { ReserveResource } = load();
  const interval = renews ? heartbeat : Infinity;
  const native = new ReserveResource(owner, host, port, interval, ttl, listener, password, options);
  return { fields, settings, native };
}

/** All fields that a caller may assign between two calls. */
function read(instance) {
  const options = options_of(instance);
  return {
    by: instance.by,
    identifier: instance.identifier,
    host: instance.host,
    port: instance.port,
    heartbeat_interval: instance.heartbeat_interval,
    lock_ttl: instance.lock_ttl,
    password: instance.password,
    options,
    given: options == null ? NOTHING : given_by(options),
    log_level: log.wanted_events(instance),
    // False if _set_expiration is overridden: then that renews.
    renews: !is_overridden(instance, '_set_expiration'),
  };
}

/** Whether the fields of an instance are still as read before. Runs at each call, so it allocates nothing (without options). */
function unchanged(instance, former) {
  const options = options_of(instance);
  return (
    is_still(instance.by, former.by) &&
    is_still(instance.identifier, former.identifier) &&
    is_still(instance.host, former.host) &&
    is_still(instance.port, former.port) &&
    is_still(instance.heartbeat_interval, former.heartbeat_interval) &&
    is_still(instance.lock_ttl, former.lock_ttl) &&
    is_still(instance.password, former.password) &&
    options === former.options &&
    (options == null || given_by(options).every((value, index) => Object.is(value, former.given[index]))) &&
    log.wanted_events(instance) === former.log_level &&
    is_overridden(instance, '_set_expiration') !== former.renews
  );
}

/** An object counts as changed: its text may have, though it is the same object. */
function is_still(value, former) {
  return Object.is(value, former) && (typeof value !== 'object' || value === null);
}

/** The values of all options as they are now. An option counts as unchanged while it is the same object. */
function given_by(options) {
  return CONSTRUCTOR_OPTIONS.map((name) => options[name]);
}

function settings_from(fields) {
  const location = location_from(fields.host, fields.port, fields.password, fields.options);
  const { host, port, password, key_prefix, options } = location;
  const owner = checked.owner_from(fields.by, fields.identifier);
  const heartbeat = checked.heartbeat_from(fields.heartbeat_interval);
  const ttl = checked.lock_ttl_from(fields.lock_ttl);
  options.log_level = fields.log_level;
  return { owner, host, port, heartbeat, renews: fields.renews, ttl, password, key_prefix, options };
}

/** Deep equality of settings, down to the members of sentinels and the PEM texts of tls. */
function alike(one, other) {
  if (typeof one !== 'object' || typeof other !== 'object') return one === other;
  const names = Object.keys(one);
  return names.length === Object.keys(other).length && names.every((name) => alike(one[name], other[name]));
}

/** The key of a resource's name; undefined if the options are wrong. */
function key_for(instance, name) {
  const prefix = key_prefix_from(instance.host, options_of(instance));
  return prefix === undefined ? undefined : checked.key_of(name, prefix);
}

/** Whether a resource is held, under its key by the current settings, and its lease is certain right now. */
function holds(state, name) {
  if (state.size === 0) return false;
  const lease = state.get(checked.key_of(name, state.settings.key_prefix));
  return lease !== undefined && state.native.is_held(lease.handle);
}

/** Whether anything is held, and every lease is certain right now. */
function holds_all(state) {
  if (state.size === 0) return false;
  if (state.size === 1) return state.native.is_held(state.newest.handle);
  const leases = state.all().filter((lease) => !has_lapsed(lease));
  return leases.length > 0 && state.native.are_held(handles_of(leases));
}

/** The native side's numbers of leases. */
function handles_of(leases) {
  return Uint32Array.from(leases, (lease) => lease.handle);
}

/** Warns, once an instance, if the lease would end before its first renewal. An interval of Infinity says that this is meant. */
function warn_of_interval(instance, state) {
  const { heartbeat, ttl } = state.settings;
  if (state.warned_of_interval || heartbeat === Infinity || heartbeat < ttl * 1000) return;
  state.warned_of_interval = true;
  const { heartbeat_interval, lock_ttl } = instance;
  log.warn(instance, 'interval-exceeds-ttl', { heartbeat_interval, lock_ttl });
}

// host:port of the unverified servers that were warned of: once a process, not once an instance.
const unverified = new Set();

/** Warns, once an endpoint, of TLS without verification: anybody on the way can read and change everything. */
function warn_of_trust(instance, state) {
  const { host, port, options } = state.settings;
  // A silent instance leaves the warning to the next one.
  if (options.tls === undefined || options.tls.reject_unauthorized || options.log_level === 0) return;
  for (const place of options.sentinels || options.cluster || [{ host, port }]) {
    const endpoint = `${place.host}:${place.port}`;
    if (unverified.has(endpoint)) continue;
    unverified.add(endpoint);
    log.warn(instance, 'tls-unverified', { host: place.host, port: place.port });
  }
}

module.exports = { handles_of, holds, holds_all, key_for, native_for };
