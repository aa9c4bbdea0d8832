// Names of options: how an option is read off an object, the error that tells of a name that is not known, and which of the
// known names was probably meant.
'use strict';

const { describe, make_error } = require('../errors');

// What other clients of redis, and other libraries for TLS, call what we have under a name that is spelt unlike it.
const ELSEWHERE = {
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

// What is said in another way than by an option, and what need not be said.
const WITHOUT = 'Leave it out: ';
const TLS_IN_URL = 'For TLS begin the URL with rediss://, or pass options.tls.';
const RECONNECTS = `${WITHOUT}the connection is made again by itself.`;
const AT_FIRST_USE = `${WITHOUT}the connection is made at the first call.`;
const ADVICE = {
  ssl: TLS_IN_URL,
  tls: TLS_IN_URL,
  sslmode: TLS_IN_URL,
  rejectunauthorized: 'Pass it in options.tls.',
  family: `${WITHOUT}all addresses of a name are tried, of either family.`,
  path: 'Pass the absolute path of a unix socket as host.',
  url: 'Pass a URL as host.',
  passphrase: 'Decrypt the key first, with openssl pkey.',
  pfx: 'Turn it into PEM first, with openssl pkcs12, and pass cert and key.',
  retrystrategy: RECONNECTS,
  reconnectstrategy: RECONNECTS,
  reconnectonerror: RECONNECTS,
  maxretriesperrequest: `${WITHOUT}a call has command_timeout, however often it is tried.`,
  lazyconnect: AT_FIRST_USE,
  enableofflinequeue: AT_FIRST_USE,
  enablereadycheck: `${WITHOUT}a redis that is loading is waited for.`,
  keepalive: `${WITHOUT}it is on.`,
  nodelay: `${WITHOUT}it is on.`,
};

// What is no option because it is an argument.
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

// What one of several servers has not for itself.
const OF_ALL =
  'It is the same for all of them: sentinelUsername and sentinelPassword for sentinels, username and password for a cluster.';
const MEMBERS = { username: OF_ALL, user: OF_ALL, password: OF_ALL, pass: OF_ALL };

/** Whether an object is the one that all plain objects of a realm inherit from: what stands there was put there by chance. */
function is_base(object) {
  return Object.getPrototypeOf(object) === null && has_own(object, 'hasOwnProperty');
}

function has_own(object, name) {
  return Object.prototype.hasOwnProperty.call(object, name);
}

/** A member of an object, its own or that of a class of the caller's; never one of a polluted Object.prototype. */
function member_of(object, name) {
  const value = object[name];
  if (value === undefined) return undefined;
  for (let holder = object; holder !== null && !is_base(holder); holder = Object.getPrototypeOf(holder)) {
    if (has_own(holder, name)) return value;
  }
  return undefined;
}

/** Throws for the first name in `object` that is not `known` as an option of `what`. */
function refuse_unknown(object, known, what) {
  for (const name of Object.keys(object)) if (!known.includes(name)) throw unknown(name, known, what);
}

function unknown(name, known, what) {
  return make_error(
    'ERR_INVALID_ARG_VALUE',
    `${describe(name)} is not an option of ${what}. ${advice_for(name, known)}Its options are: ${known.join(', ')}.`,
  );
}

/** What was meant, in a sentence with a space behind it; nothing where there is no telling. */
function advice_for(name, known) {
  const wanted = plain(name);
  const same = known.find((one) => plain(one) === wanted);
  if (same !== undefined) return `Did you mean ${same}? `;
  if (has_own(ELSEWHERE, wanted) && known.includes(ELSEWHERE[wanted])) {
    return `Did you mean ${ELSEWHERE[wanted]}? `;
  }
  const here = [ADVICE, known.includes('key_prefix') ? ARGUMENTS : known.includes('host') ? MEMBERS : {}];
  for (const advice of here) if (has_own(advice, wanted)) return `${advice[wanted]} `;
  const meant = nearest(wanted, known);
  return meant === undefined ? '' : `Did you mean ${meant}? `;
}

/** A name without what styles differ in: `keyPrefix`, `key-prefix` and `key_prefix` are one. */
function plain(name) {
  return name.slice(0, 40).toLowerCase().replace(/[_-]/g, '');
}

/** The known name that is reached by the fewest slips, of those that are near; undefined where none is. */
function nearest(wanted, known) {
  const candidates = known.map((name) => [plain(name), name]);
  for (const other of Object.keys(ELSEWHERE)) {
    if (known.includes(ELSEWHERE[other])) candidates.push([other, ELSEWHERE[other]]);
  }
  let best;
  let fewest = Infinity;
  for (const [candidate, name] of candidates) {
    const slips = distance(wanted, candidate);
    // One in three letters: `dbb` is db, `dn` and `ssl` are not.
    if (slips < fewest && slips * 3 <= Math.max(wanted.length, candidate.length)) {
      fewest = slips;
      best = name;
    }
  }
  return best;
}

/** How many letters were left out, put in, changed or swapped with their neighbours. */
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
