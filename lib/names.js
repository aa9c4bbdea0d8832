// Names that are not known: the error that tells of one, and which of the known names was probably meant.
'use strict';

const { describe, make_error } = require('./errors');

// What other clients of redis, and other libraries for TLS, call what we have under a name that is spelt unlike it.
const ELSEWHERE = {
  database: 'db',
  user: 'username',
  pass: 'password',
  ssl: 'tls',
  resp: 'protocol',
  prefix: 'key_prefix',
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

/** Throws for the first name in `object` that is not `known` as an option of `what`. */
function refuse_unknown(object, known, what) {
  for (const name of Object.keys(object)) if (!known.includes(name)) throw unknown(name, known, what);
}

function unknown(name, known, what) {
  return make_error(
    'ERR_INVALID_ARG_VALUE',
    `${describe(name)} is not an option of ${what}. Did you mean ${nearest(name, known)}? ` +
      `Its options are: ${known.join(', ')}.`,
  );
}

/** The known name that another library's stands for, else the one that takes the fewest edits to reach. */
function nearest(name, known) {
  const wanted = name.slice(0, 40).toLowerCase();
  const alias = wanted.replace(/[_-]/g, '');
  if (Object.prototype.hasOwnProperty.call(ELSEWHERE, alias) && known.includes(ELSEWHERE[alias])) {
    return ELSEWHERE[alias];
  }
  let best = known[0];
  let fewest = Infinity;
  for (const candidate of known) {
    const edits = distance(wanted, candidate.toLowerCase());
    if (edits < fewest) {
      fewest = edits;
      best = candidate;
    }
  }
  return best;
}

function distance(from, to) {
  let row = Array.from({ length: to.length + 1 }, (_, index) => index);
  for (let i = 1; i <= from.length; i++) {
    const next = [i];
    for (let j = 1; j <= to.length; j++) {
      const changed = row[j - 1] + (from[i - 1] === to[j - 1] ? 0 : 1);
      next[j] = Math.min(changed, row[j] + 1, next[j - 1] + 1);
    }
    row = next;
  }
  return row[to.length];
}

module.exports = { refuse_unknown };
