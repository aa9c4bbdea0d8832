// A URL in `host`: reading its parts, and printing it without secrets. No error quotes any of it, since in a malformed URL
// the password may be anywhere.
'use strict';

const { wrong_value } = require('./values');
const { refuse_unknown } = require('./names');

const HIDDEN = '[hidden]';

// The schemes, and what each one implies.
const SCHEMES = {
  'redis:': { tls: false, socket: false },
  'rediss:': { tls: true, socket: false },
  'valkey:': { tls: false, socket: false },
  'valkeys:': { tls: true, socket: false },
  'unix:': { tls: false, socket: true },
};

// The options that the query may set. username and password are there for unix sockets, as other clients write them.
const URL_OPTIONS = [
  'db',
  'protocol',
  'client_name',
  'key_prefix',
  'min_replicas',
  'connect_timeout',
  'command_timeout',
  'max_hold',
  'username',
  'password',
];

const EXAMPLE = 'It looks like redis://user:password@redis.example.com:6379/0.';
const ENCODE = 'In a user or a password, write / as %2F, ? as %3F, # as %23, @ as %40 and % as %25.';

const GROUPS =
  "Pass no host, but options.sentinels, [{ host: 'sentinel-1.example.com', port: 26379 }, …], with options.name, or options.cluster.";

// Schemes of other clients -> what to write here.
const OTHER_SCHEMES = [
  [/sentinel|cluster/, GROUPS],
  [/unix|socket/, 'That of a socket is unix:///run/redis.sock.'],
  [/ssl|tls|https/, 'That of TLS is rediss://user:password@redis.example.com:6379/0.'],
  [/(?:)/, EXAMPLE],
];

// Several hosts: a comma behind the credentials and before the path.
const SEVERAL_HOSTS = /^\s*[a-z][a-z0-9+.-]*:\/\/(?:[^/?#]*@)?[^/?#@]*,[^/?#@]*(?:[/?#][^@]*)?$/i;

const START = /^[a-z][a-z0-9+.-]*:\/\//i;

/** Whether a text is meant as a URL. */
function is_url(text) {
  return text.includes('://');
}

let last_text;
let last_parts;

/**
 * { socket, tls, host, port, username, password, db, query }: decoded strings, undefined if not given. If `socket` is true,
 * `host` is a path. The names in `query` are checked, the values are not.
 */
function read_url(text) {
  // A cache of one: an instance reads its URL at each call, and most programs have one URL.
  if (text !== last_text) {
    last_parts = parts_of(text);
    last_text = text;
  }
  return last_parts;
}

function parts_of(text) {
  const url = parse(text);
  const known = url === null ? undefined : SCHEMES[url.protocol];
  if (SEVERAL_HOSTS.test(text))
    throw wrong_value(`host must be a URL of one host; there are several in it. ${GROUPS}`);
  if (url === null) throw wrong_value(`host must be a URL that can be read; it cannot. ${EXAMPLE} ${ENCODE}`);
  if (known === undefined) {
    const schemes = Object.keys(SCHEMES).map((scheme) => `${scheme}//`);
    const [, advice] = OTHER_SCHEMES.find(([scheme]) => scheme.test(url.protocol));
    throw wrong_value(`host must be a URL of ${schemes.join(', ')}; its scheme is another. ${advice}`);
  }
  refuse_leftovers(url);
  const { tls, socket } = known;
  const query = query_of(url);
  const [username, password] = [decoded(url.username), decoded(url.password)];
  const credentials = {
    username: one_of('username', username, query.username),
    password: one_of('password', password, query.password),
  };
  delete query.username;
  delete query.password;
  // Without a prototype, so that a polluted Object.prototype adds no part.
  const parts = Object.assign(Object.create(null), { socket, tls, query }, credentials);
  if (socket) return Object.assign(parts, { host: socket_of(url) });
  const host = url.hostname === '' ? undefined : decoded(url.hostname);
  const port = url.port === '' ? undefined : url.port;
  return Object.assign(parts, { host, port, db: database_of(url) });
}

/** A text as a URL object; null if it is no URL. The error of `new URL` quotes its input, so it is dropped. */
function parse(text) {
  const trimmed = text.trim();
  // `new URL` silently removes tabs and newlines, also from a password.
  if (!START.test(trimmed) || /[\t\n\r]/.test(trimmed)) return null;
  try {
    // `new URL` takes no credentials without a host, but a socket's URL has none: unix://user:password@/path.
    return new URL(trimmed.replace(/^(unix:\/\/[^/?#]*@)(?=\/)/i, '$1localhost'));
  } catch (_) {
    return null;
  }
}

/** Whether the host ended too early: a /, ? or # in a password does that, and the rest of the password follows it. */
function has_leftovers({ pathname, search, hash }) {
  return hash !== '' || pathname.includes('@') || search.includes('@');
}

function refuse_leftovers(url) {
  if (!has_leftovers(url)) return;
  throw wrong_value(
    `host must be a URL with nothing left over: there is an @ or a # after its host. ${ENCODE}`,
  );
}

function decoded(part) {
  if (part === '') return undefined;
  try {
    return decodeURIComponent(part);
  } catch (_) {
    throw wrong_value(`host must be a URL that can be decoded; a % in it is followed by no code. ${ENCODE}`);
  }
}

function query_of(url) {
  const query = Object.create(null);
  for (const [name, value] of url.searchParams) {
    refuse_unknown({ [name]: value }, URL_OPTIONS, 'the URL in host');
    query[name] = one_of(name, query[name], value);
  }
  return query;
}

function one_of(name, first, second) {
  if (first !== undefined && second !== undefined && first !== second) {
    throw wrong_value(`${name} is given twice in the URL in host, and differently. Give it once.`);
  }
  return first === undefined ? second : first;
}

function database_of({ pathname }) {
  if (pathname === '' || pathname === '/') return undefined;
  if (/^\/\d+$/.test(pathname)) return pathname.slice(1);
  throw wrong_value(
    `host must be a URL whose path is empty or the number of a database, such as /2; its path is another. ${ENCODE}`,
  );
}

function socket_of({ hostname, port, pathname }) {
  if ((hostname === '' || hostname === 'localhost') && port === '' && pathname.length > 1) {
    return decoded(pathname);
  }
  throw wrong_value(
    'host must be a unix:// URL of an absolute path; it is of a host, or of no path. ' +
      'Three slashes begin it: unix:///run/redis.sock.',
  );
}

/** A host as it may be printed: a URL has its password replaced, anything without a secret is unchanged. */
function without_secrets(host) {
  // Only a text that may have credentials contains one of these; a name, an address or a port does not.
  if (typeof host !== 'string' || !/:\/\/|[@,;=]/.test(host) || host.startsWith('/')) return host;
  const url = parse(host);
  // A text that cannot be parsed may be all password.
  if (url === null || has_leftovers(url)) return HIDDEN;
  if (url.password === '' && url.search === '') return host;
  const password = url.password === '' ? '' : `:${HIDDEN}`;
  const user = url.username === '' && password === '' ? '' : `${url.username}${password}@`;
  return `${url.protocol}//${user}${url.host}${url.pathname}${query_without_secrets(url)}`;
}

function query_without_secrets({ search, searchParams }) {
  if (search === '') return '';
  const pairs = Array.from(searchParams, ([name, value]) => {
    if (!URL_OPTIONS.includes(name)) return HIDDEN;
    return `${name}=${name === 'password' ? HIDDEN : encodeURIComponent(value)}`;
  });
  return `?${pairs.join('&')}`;
}

module.exports = { HIDDEN, is_url, read_url, without_secrets };
