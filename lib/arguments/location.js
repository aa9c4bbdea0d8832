// Where redis is: host, port, password and options, combined into what the native side takes. A value that is given in two
// places must agree; options that exclude each other are refused by an error that names both.
'use strict';

const { DEFAULT_KEY_PREFIX, password_from, port_from, wrong_value } = require('./values');
const { member_of } = require('./names');
const {
  CONSTRUCTOR_OPTIONS,
  DEFAULT_CLIENT_NAME,
  address_from,
  option_from,
  options_from,
} = require('./options');
const { tls_from } = require('./tls');
const { is_url, read_url } = require('./url');

const DEFAULT_HOST = '127.0.0.1';
const DEFAULT_PORT = 6379;
const IN_URL = 'in the URL in host';

// Options that do not affect the connection.
const OF_INSTANCE = ['connect_timeout', 'command_timeout', 'max_hold', 'key_prefix', 'min_replicas'];

// Options that do: instances that differ in one have different connections.
const CONNECTION_OPTIONS = CONSTRUCTOR_OPTIONS.filter((name) => !OF_INSTANCE.includes(name));

/**
 * { host, port, password, key_prefix, options } as the native side takes them. `options` has only what differs from the
 * defaults. With sentinels or a cluster, `host` is '' and `port` 0; with a unix socket, `port` is 0.
 */
function location_from(host, port, password, given) {
  const own = options_from(given);
  const grouped = refuse_contradictions(own, host, port);
  const place = grouped ? null_object({ host: '', port: 0, options: null_object({}) }) : place_from(host);
  const own_port = port_from(port);
  const options = merged(place.options, own);
  const tls = tls_of(place, own);
  if (tls) options.tls = tls;
  return {
    host: place.host,
    // A socket has no port. A given one is ignored: many set it for all their environments alike.
    port: grouped || place.socket ? 0 : agreed('port', place.port, own_port, 'as port') || DEFAULT_PORT,
    password: agreed('password', place.password, password_from(password), 'as password') || '',
    key_prefix: options.key_prefix === undefined ? DEFAULT_KEY_PREFIX : options.key_prefix,
    options: native_options(options),
  };
}

/** Throws for options that exclude one another. Returns whether sentinels or a cluster are given. */
function refuse_contradictions(own, host, port) {
  const { sentinels, cluster } = own;
  if (sentinels !== undefined && cluster !== undefined) {
    throw wrong_value(
      'sentinels must not be given together with cluster: each says where redis is. Leave one out.',
    );
  }
  if (sentinels !== undefined && own.name === undefined) {
    throw wrong_value(
      'name must be given with sentinels; it is missing. It is the name under which they watch the master, such as mymaster.',
    );
  }
  for (const option of ['name', 'sentinelUsername', 'sentinelPassword']) {
    if (sentinels !== undefined || own[option] === undefined) continue;
    throw wrong_value(
      `${option} must be given with sentinels alone; there are none. Pass sentinels, or leave ${option} out.`,
    );
  }
  if (sentinels === undefined && cluster === undefined) return false;
  const group = sentinels === undefined ? 'cluster' : 'sentinels';
  for (const [field, value] of [
    ['host', host],
    ['port', port],
  ]) {
    if (!value) continue;
    throw wrong_value(
      `${field} must not be given together with ${group}: each says where redis is. Pass null as ${field}, or leave ${group} out.`,
    );
  }
  return true;
}

/** An object without a prototype, so that a polluted Object.prototype is not in it. */
function null_object(members) {
  return Object.assign(Object.create(null), members);
}

/** `host`, in any of its forms, as { host, socket, tls, port, username, password, options }. */
function place_from(host) {
  const options = null_object({});
  if (!host) return null_object({ host: DEFAULT_HOST, options });
  if (typeof host !== 'string') return null_object({ host: address_from(host, 'host'), options });
  if (is_url(host)) return place_from_url(host);
  if (host.startsWith('/')) return null_object({ host: path_from(host), socket: true, options });
  refuse_forms_of_others(host);
  if (host.includes('@')) {
    // The value is not shown: it often holds a password.
    throw wrong_value(
      'host must be a name, an address, a path or a URL; there is an @ in it. ' +
        'Write it as a URL, redis://user:password@redis.example.com, or pass its parts as options.username and password.',
    );
  }
  return null_object({ host: address_from(host, 'host'), options });
}

/** Throws for forms that only other clients take. The value is not shown: it may hold a password. */
function refuse_forms_of_others(host) {
  if (/^unix:/i.test(host)) {
    throw wrong_value(
      'host must be a URL that begins with unix:/// or an absolute path; it begins with unix: alone. ' +
        'Write unix:///run/redis.sock, or /run/redis.sock.',
    );
  }
  if (/^(?:\.{0,2}|~)\//.test(host) || /^[^,=@]*\.sock$/.test(host)) {
    throw wrong_value(
      "host must be the absolute path of a socket; it is a relative one. Pass require('path').resolve('./redis.sock').",
    );
  }
  if (/[,;=]/.test(host)) {
    throw wrong_value(
      'host must be one name, address, path or URL; there is a comma, a semicolon or an = in it, as in the connection strings of ' +
        'StackExchange.Redis. Pass its parts as host, port, password, options.username, options.db and options.tls, or as a URL, ' +
        'rediss://user:password@redis.example.com:6380/0; and several hosts as options.cluster, or as options.sentinels with options.name.',
    );
  }
}

function place_from_url(text) {
  const { socket, tls, host, port, username, password, db, query } = read_url(text);
  const options = null_object({});
  for (const name of Object.keys(query)) {
    const value = option_from(name, query[name], `${name} ${IN_URL}`);
    if (value !== undefined) options[name] = value;
  }
  if (db !== undefined) {
    const number = option_from('db', db, `db ${IN_URL}`);
    options.db = agreed('db', options.db, number, 'as its path');
  }
  if (username) options.username = username;
  return null_object({
    host: socket ? path_from(host) : host === undefined ? DEFAULT_HOST : address_from(host, 'host'),
    socket,
    tls,
    port: port === undefined ? undefined : port_from(port, `port ${IN_URL}`, DEFAULT_PORT),
    password,
    options,
  });
}

function path_from(path) {
  if (!path.includes('\0')) return path;
  throw wrong_value(
    'host must be the path of a socket; there is a NUL character in it, which is in no path.',
  );
}

/** The options of the URL and of the constructor, merged. `tls` is left to tls_of(). */
function merged(from_url, own) {
  const options = null_object(own);
  delete options.tls;
  for (const name of Object.keys(from_url)) {
    options[name] = agreed(name, from_url[name], own[name], `as options.${name}`);
  }
  return options;
}

/** The value that is given in one of two places, or equally in both. The error shows numbers only: texts may be secret. */
function agreed(name, in_url, other, place) {
  if (in_url === undefined) return other;
  if (other === undefined || other === in_url) return in_url;
  const values = typeof other === 'number' ? `: ${in_url} and ${other}` : '';
  throw wrong_value(
    `${name} must be the same wherever it is given; it is given ${IN_URL} and ${place}, and differs${values}. Leave one out.`,
  );
}

/** The TLS settings; false for no TLS. A redis:// URL leaves that to the `tls` option, a rediss:// URL turns it on. */
function tls_of({ tls: by_url, socket }, { tls }) {
  if (by_url && tls === false) {
    throw wrong_value(
      'tls must be the same wherever it is given; it is on by the scheme of the URL in host, and false as options.tls. Leave one out.',
    );
  }
  if (socket && tls) {
    throw wrong_value(
      'tls must not be given together with the path of a unix socket in host: nothing leaves the machine there. Leave tls out.',
    );
  }
  return by_url && tls === undefined ? tls_from(true) : tls || false;
}

// Options that have another name on the native side.
const NATIVE_NAMES = null_object({
  sentinelUsername: 'sentinel_username',
  sentinelPassword: 'sentinel_password',
});

// The native side's defaults.
const DEFAULTS = null_object({
  db: 0,
  client_name: DEFAULT_CLIENT_NAME,
  key_prefix: DEFAULT_KEY_PREFIX,
  min_replicas: 0,
});

/** Options under their native names, in a fixed order, without defaults: equal endpoints give equal JSON. */
function native_options(options) {
  const native = null_object({});
  for (const name of CONSTRUCTOR_OPTIONS) {
    const value = options[name];
    if (value === undefined || value === DEFAULTS[name]) continue;
    native[NATIVE_NAMES[name] || name] = value;
  }
  return native;
}

/** The key prefix of an instance; undefined if its options are wrong. Cheap if there are none. */
function key_prefix_from(host, given) {
  const in_query = typeof host === 'string' && host.includes('?') && is_url(host);
  if (given == null && !in_query) return DEFAULT_KEY_PREFIX;
  try {
    const own =
      given == null ? undefined : option_from('key_prefix', member_of(given, 'key_prefix'), 'key_prefix');
    if (own !== undefined) return own;
    const text = in_query ? read_url(host).query.key_prefix : undefined;
    return text === undefined ? DEFAULT_KEY_PREFIX : option_from('key_prefix', text, 'key_prefix');
  } catch (_) {
    // The call that asked gets the same error when it needs the connection.
    return undefined;
  }
}

/**
 * The endpoint: the location by CONNECTION_OPTIONS alone, as the native side takes it to disconnect. The other options may be
 * wrong: the call that needs them refuses them.
 */
function endpoint_from(host, port, password, given) {
  const own = null_object({});
  if (given != null) for (const name of CONNECTION_OPTIONS) own[name] = member_of(given, name);
  const location = location_from(host, port, password, own);
  // The query of a URL may set them.
  for (const name of OF_INSTANCE) delete location.options[name];
  return { host: location.host, port: location.port, password: location.password, options: location.options };
}

module.exports = { CONNECTION_OPTIONS, endpoint_from, key_prefix_from, location_from };
