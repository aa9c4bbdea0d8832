// A URL that says where redis is: read into its parts, and shown without what is secret in it. Nothing that stands in
// such a text is ever quoted in an error, for a password may stand anywhere in one that is written wrong.
'use strict';

const { wrong_value } = require('./values');
const { refuse_unknown } = require('./names');

const HIDDEN = '[hidden]';

// The schemes, each with what it says by itself.
const SCHEMES = {
  'redis:': { tls: false, socket: false },
  'rediss:': { tls: true, socket: false },
  'valkey:': { tls: false, socket: false },
  'valkeys:': { tls: true, socket: false },
  'unix:': { tls: false, socket: true },
};

// What may stand after the question mark; username and password, as clients of unix sockets write them.
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

// Schemes of other clients, each with what says the same here.
const OTHER_SCHEMES = [
  [/sentinel|cluster/, GROUPS],
  [/unix|socket/, 'That of a socket is unix:///run/redis.sock.'],
  [/ssl|tls|https/, 'That of TLS is rediss://user:password@redis.example.com:6379/0.'],
  [/(?:)/, EXAMPLE],
];

// A comma behind all credentials and before the path.
const SEVERAL = /^\s*[a-z][a-z0-9+.-]*:\/\/(?:[^/?#]*@)?[^/?#@]*,[^/?#@]*(?:[/?#][^@]*)?$/i;

const START = /^[a-z][a-z0-9+.-]*:\/\//i;

/** Whether a text is meant as a URL. */
function is_url(text) {
  return text.includes('://');
}

let last_text;
let last_parts;

/**
 * { socket, tls, host, port, username, password, db, query }: texts, decoded, undefined where they are not given. `host`
 * is a path where `socket` is true. The values of `query` are not checked, its names are.
 */
function read_url(text) {
  // An instance asks for its own URL at each call, and most programs have one.
  if (text !== last_text) {
    last_parts = parts_of(text);
    last_text = text;
  }
  return last_parts;
}

function parts_of(text) {
  const url = parse(text);
  const known = url === null ? undefined : SCHEMES[url.protocol];
  if (SEVERAL.test(text))
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
  // Without a prototype: what somebody has put into Object.prototype is no part of a URL.
  const parts = Object.assign(Object.create(null), { socket, tls, query }, credentials);
  if (socket) return Object.assign(parts, { host: socket_of(url) });
  const host = url.hostname === '' ? undefined : decoded(url.hostname);
  const port = url.port === '' ? undefined : url.port;
  return Object.assign(parts, { host, port, db: database_of(url) });
}

/** The URL of a text; null where it is none. The class's own error quotes its input, so nobody gets it. */
function parse(text) {
  const trimmed = text.trim();
  // Tabs and newlines would be dropped without a word, also out of a password.
  if (!START.test(trimmed) || /[\t\n\r]/.test(trimmed)) return null;
  try {
    // The class knows no credentials without a host, which is how a socket's are written.
    return new URL(trimmed.replace(/^(unix:\/\/[^/?#]*@)(?=\/)/i, '$1localhost'));
  } catch (_) {
    return null;
  }
}

/** A password with a /, ? or # in it ends the host early: what follows is then part of the password. */
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

/** A host as it may be printed: a URL without its password, in full where there is none in it. */
function without_secrets(host) {
  // No name, address or port has one of these in it, but a text with credentials has.
  if (typeof host !== 'string' || !/:\/\/|[@,;=]/.test(host) || host.startsWith('/')) return host;
  const url = parse(host);
  // What cannot be read may be a password from end to end.
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
