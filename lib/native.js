// The native object of an instance: made at the first call that needs it, told of fields that changed before each
// later one.
'use strict';

const checked = require('./arguments');
const { listener_for } = require('./events');
const { load } = require('./load');
const log = require('./log');
const { options_of } = require('./state');

/** The native object, configured from the fields as they are now. Throws what the caller's callback should get. */
function native_for(instance, state) {
  const fields = read(instance);
  if (state.native !== null && same(fields, state.fields)) return state.native;
  const settings = settings_from(fields);
  const { owner, host, port, heartbeat, ttl, password, options } = settings;
  if (state.native === null) {
    const { ReserveResource } = load();
    const listener = listener_for(instance, state);
    state.native = new ReserveResource(owner, host, port, heartbeat, ttl, listener, password, options);
  } else if (!same_settings(settings, state.settings)) {
    state.native.configure(owner, host, port, heartbeat, ttl, password, options);
  }
  state.fields = fields;
  state.settings = settings;
  warn_of_interval(instance, state);
  return state.native;
}

/** Everything that a caller may assign between two calls. */
function read(instance) {
  const options = options_of(instance);
  const given = typeof options === 'object' && options !== null ? options : {};
  return {
    by: instance.by,
    identifier: instance.identifier,
    host: instance.host,
    port: instance.port,
    heartbeat_interval: instance.heartbeat_interval,
    lock_ttl: instance.lock_ttl,
    password: instance.password,
    options,
    connect_timeout: given.connect_timeout,
    command_timeout: given.command_timeout,
    max_hold: given.max_hold,
    log_level: log.wanted_events(instance),
  };
}

function same(fields, former) {
  for (const name in fields) {
    if (!Object.is(fields[name], former[name])) return false;
    // An object's text may have changed while it is still the same object.
    if (name !== 'options' && typeof fields[name] === 'object' && fields[name] !== null) return false;
  }
  return true;
}

function settings_from(fields) {
  const options = checked.constructor_options_from(fields.options) || {};
  options.log_level = fields.log_level;
  return {
    owner: checked.owner_from(fields.by, fields.identifier),
    host: checked.host_from(fields.host),
    port: checked.port_from(fields.port),
    heartbeat: checked.heartbeat_from(fields.heartbeat_interval),
    ttl: checked.lock_ttl_from(fields.lock_ttl),
    password: checked.password_from(fields.password),
    options,
  };
}

function same_settings(settings, former) {
  for (const name of Object.keys(settings)) {
    if (name === 'options') {
      if (JSON.stringify(settings.options) !== JSON.stringify(former.options)) return false;
    } else if (settings[name] !== former[name]) return false;
  }
  return true;
}

/** Once an instance: such a lease ends before its first renewal. Infinity says that this is meant. */
function warn_of_interval(instance, state) {
  const { heartbeat, ttl } = state.settings;
  if (state.warned_of_interval || heartbeat === Infinity || heartbeat < ttl * 1000) return;
  state.warned_of_interval = true;
  const { heartbeat_interval, lock_ttl } = instance;
  log.warn(instance, 'interval-exceeds-ttl', { heartbeat_interval, lock_ttl });
}

module.exports = { native_for };
