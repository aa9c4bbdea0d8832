// Names of options: reading an option off an object, and the error for an unknown name, with the name that was probably
// meant.
'use strict';

const { describe, make_error } = require('../errors');

// The names that other redis clients and TLS libraries have for our options, normalised -> ours.
const SYNONYMS = {
  database: 'db',
  user: 'username',
  pass: 'password',
  passwd: 'password',
  ssl: 'tls',
  resp: 'protocol',
  prefix: 'key_prefix',
  keyprefix: 'key_prefix',
  sentineluser: 'sentinelUsername',
  sentinelpass: 'sentinelPassword',
  master: 'name',
  mastername: 'name',
  nodes: 'cluster',
  rootnodes: 'cluster',
  startupnodes: 'cluster',
  dialtimeout: 'connect_timeout',
  readtimeout: 'command_timeout',
  sockettimeout: 'command_timeout',
  cafile: 'ca',
  cacert: 'ca',
  certfile: 'cert',
  keyfile: 'key',
  sni: 'servername',
  hostname: 'host',
  ttl: 'lock_ttl',
  heartbeat: 'heartbeat_interval',
  interval: 'heartbeat_interval',
  logger: 'log',
  address: 'host',
};

// Options of other clients that have no option here, normalised -> what to do instead.
const OMIT = 'Leave it out: ';
const TLS_IN_URL = 'For TLS begin the URL with rediss://, or pass options.tls.';
const RECONNECTS = `${OMIT}the connection is made again by itself.`;
const AT_FIRST_USE = `${OMIT}the connection is made at the first call.`;
const ADVICE = {
  ssl: TLS_IN_URL,
  tls: TLS_IN_URL,
  sslmode: TLS_IN_URL,
  rejectunauthorized: 'Pass it in options.tls.',
  family: `${OMIT}all addresses of a name are tried, of either family.`,
  path: 'Pass the absolute path of a unix socket as host.',
  url: 'Pass a URL as host.',
  passphrase: 'Decrypt the key first, with openssl pkey.',
  pfx: 'Turn it into PEM first, with openssl pkcs12, and pass cert and key.',
  retrystrategy: RECONNECTS,
  reconnectstrategy: RECONNECTS,
  reconnectonerror: RECONNECTS,
  maxretriesperrequest: `${OMIT}a call has command_timeout, however often it is tried.`,
  lazyconnect: AT_FIRST_USE,
  enableofflinequeue: AT_FIRST_USE,
  enablereadycheck: `${OMIT}a redis that is loading is waited for.`,
  keepalive: `${OMIT}it is on.`,
  nodelay: `${OMIT}it is on.`,
};

// Names that are positional arguments here, not options.
const ARGUMENTS = {
  by: 'It is the first argument of the constructor.',
  host: 'It is the second argument of the constructor.',
  port: 'It is the third argument of the constructor.',
  heartbeatinterval: 'It is the fourth argument of the constructor.',
  lockttl: 'It is the fifth argument of the constructor, in seconds.',
  ttl: 'lock_ttl is the fifth argument of the constructor, in seconds.',
  log: 'It is the sixth argument of the constructor.',
  logger: 'log is the sixth argument of the constructor.',
  password: 'It is the seventh argument of the constructor.',
  pass: 'password is the seventh argument of the constructor.',
  sentinels: 'Pass it as options.sentinels, with options.name.',
  cluster: 'Pass it as options.cluster.',
};

// Options that a single sentinel or node cannot have.
const SHARED_BY_ALL =
  'It is the same for all of them: sentinelUsername and sentinelPassword for sentinels, username and password for a cluster.';
const MEMBERS = {
  username: SHARED_BY_ALL,
  user: SHARED_BY_ALL,
  password: SHARED_BY_ALL,
  pass: SHARED_BY_ALL,
};

/** Whether an object is an Object.prototype, of any realm. Members that were added there are no options. */
function is_base(object) {
  return Object.getPrototypeOf(object) === null && has_own(object, 'hasOwnProperty');
}

function has_own(object, name) {
  return Object.prototype.hasOwnProperty.call(object, name);
}

/** A member of an object, its own or inherited from the caller's class, but not from a polluted Object.prototype. */
function member_of(object, name) {
  const value = object[name];
  if (value === undefined) return undefined;
  for (let holder = object; holder !== null && !is_base(holder); holder = Object.getPrototypeOf(holder)) {
    if (has_own(holder, name)) return value;
  }
  return undefined;
}

/** Throws for the first member of `object` that is not among the `known` options of `what`. */
function refuse_unknown(object, known, what) {
  for (const name of Object.keys(object)) if (!known.includes(name)) throw unknown(name, known, what);
}

function unknown(name, known, what) {
  return make_error(
    'ERR_INVALID_ARG_VALUE',
    `${describe(name)} is not an option of ${what}. ${advice_for(name, known)}Its options are: ${known.join(', ')}.`,
  );
}

/** What was probably meant, as a sentence with a trailing space; '' if there is no guess. */
function advice_for(name, known) {
  const wanted = normalised(name);
  const same = known.find((one) => normalised(one) === wanted);
  if (same !== undefined) return `Did you mean ${same}? `;
  if (has_own(SYNONYMS, wanted) && known.includes(SYNONYMS[wanted])) {
    return `Did you mean ${SYNONYMS[wanted]}? `;
  }
  const here = [ADVICE, known.includes('key_prefix') ? ARGUMENTS : known.includes('host') ? MEMBERS : {}];
  for (const advice of here) if (has_own(advice, wanted)) return `${advice[wanted]} `;
  const meant = nearest(wanted, known);
  return meant === undefined ? '' : `Did you mean ${meant}? `;
}

/** A name without its style: `keyPrefix`, `key-prefix` and `key_prefix` become the same. */
function normalised(name) {
  return name.slice(0, 40).toLowerCase().replace(/[_-]/g, '');
}

/** The known name with the smallest edit distance; undefined if none is near. */
function nearest(wanted, known) {
  const candidates = known.map((name) => [normalised(name), name]);
  for (const other of Object.keys(SYNONYMS)) {
    if (known.includes(SYNONYMS[other])) candidates.push([other, SYNONYMS[other]]);
  }
  let best;
  let fewest = Infinity;
  for (const [candidate, name] of candidates) {
    const edits = distance(wanted, candidate);
    // At most one edit in three letters: `dbb` is near db; `dn` and `ssl` are not.
    if (edits < fewest && edits * 3 <= Math.max(wanted.length, candidate.length)) {
      fewest = edits;
      best = name;
    }
  }
  return best;
}

/** Edit distance: letters deleted, inserted, changed, or swapped with a neighbour (optimal string alignment). */
function distance(from, to) {
  let before = [];
  let row = Array.from({ length: to.length + 1 }, (_, index) => index);
  for (let i = 1; i <= from.length; i++) {
    const next = [i];
    for (let j = 1; j <= to.length; j++) {
      const changed = row[j - 1] + (from[i - 1] === to[j - 1] ? 0 : 1);
      next[j] = Math.min(changed, row[j] + 1, next[j - 1] + 1);
      if (i > 1 && j > 1 && from[i - 1] === to[j - 2] && from[i - 2] === to[j - 1]) {
        next[j] = Math.min(next[j], before[j - 2] + 1);
      }
    }
    before = row;
    row = next;
  }
  return row[to.length];
}

module.exports = { member_of, refuse_unknown };
