// What somebody has put into Object.prototype is no option, wherever options are read; what a class of the caller's has is.
'use strict';

const assert = require('node:assert/strict');
const { test } = require('node:test');
const vm = require('node:vm');
const { wait_options_from } = require('../../lib/arguments/values');
const { endpoint_from, key_prefix_from, location_from } = require('../../lib/arguments/location');
const { tls_from } = require('../../lib/arguments/tls');

const PEM = '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----';

// Each name that is read of anything, with a value that would be seen.
const POLLUTION = {
  tls: true,
  db: 3,
  name: 'polluted',
  username: 'polluted',
  password: 'polluted',
  sentinels: [{ host: 'polluted' }],
  cluster: [{ host: 'polluted' }],
  sentinelUsername: 'polluted',
  sentinelPassword: 'polluted',
  sentinel_username: 'polluted',
  sentinel_password: 'polluted',
  key_prefix: 'polluted',
  client_name: 'polluted',
  protocol: 2,
  min_replicas: 1,
  connect_timeout: 7,
  command_timeout: 7,
  max_hold: 7,
  host: 'polluted',
  port: 7,
  socket: true,
  query: {},
  options: {},
  ca: 'polluted',
  cert: 'polluted',
  key: 'polluted',
  servername: 'polluted',
  rejectUnauthorized: false,
  reject_unauthorized: false,
  timeout: 7,
  signal: 7,
};

/** What `work` gives while Object.prototype is polluted; all that can be read of it, as plain objects. */
function polluted(work) {
  // One after the other, and all at once: together, one might hide what another does.
  return [...Object.keys(POLLUTION).map((name) => [name]), Object.keys(POLLUTION)].map((names) => {
    for (const name of names) {
      Object.defineProperty(Object.prototype, name, {
        value: POLLUTION[name],
        configurable: true,
        writable: true,
      });
    }
    try {
      return [names.join(), seen(work())];
    } finally {
      for (const name of names) delete Object.prototype[name];
    }
  });
}

/** Every member that a reader would find, as the native side reads them: by name. */
function seen(value) {
  if (typeof value !== 'object' || value === null) return value;
  // Of several servers both members that are read are their own.
  if (Array.isArray(value)) return value.map((member) => ({ ...member }));
  const found = {};
  for (const name of new Set([...Object.keys(POLLUTION), ...Object.keys(value)])) {
    if (value[name] !== undefined)
      Object.defineProperty(found, name, { value: seen(value[name]), enumerable: true });
  }
  return found;
}

const places = [
  ['nothing', () => location_from(undefined, undefined, undefined, undefined)],
  ['a host and no options', () => location_from('e', 1, 'pw', {})],
  ['options', () => location_from('e', 1, 'pw', { max_hold: 5 })],
  ['a URL', () => location_from('redis://e', null, null, null)],
  ['a URL with a query', () => location_from('redis://me@e:1/2?client_name=x', null, null, { max_hold: 5 })],
  ['the path of a socket', () => location_from('/r.sock', null, null, {})],
  ['the URL of a socket', () => location_from('unix:///r.sock', null, null, {})],
  ['tls', () => location_from('e', 1, '', { tls: { ca: PEM } })],
  ['sentinels', () => location_from(null, null, '', { sentinels: [{ host: 'a' }], name: 'main' })],
  ['a cluster', () => location_from(null, null, '', { cluster: [{ host: 'a' }] })],
  ['the connection', () => endpoint_from('e', 1, 'pw', { max_hold: 5 })],
  ['the prefix', () => key_prefix_from('redis://e?db=1', { db: 1 })],
  ['no options of a wait', () => wait_options_from({})],
];

for (const [what, work] of places) {
  test(`a polluted Object.prototype adds nothing to ${what}`, () => {
    const expected = seen(strip(work()));
    for (const [names, result] of polluted(() => strip(work()))) assert.deepEqual(result, expected, names);
  });
}

/** The whole that is taken apart at once: its own members are all that count. */
function strip(whole) {
  return typeof whole === 'object' ? Object.assign(Object.create(null), whole) : whole;
}

test('nor does that of another realm, and a member without a prototype counts', () => {
  const foreign = vm.runInNewContext('Object.prototype.db = 3; ({ max_hold: 5 })');
  assert.deepEqual({ ...location_from('e', 1, '', foreign).options }, { max_hold: 5 });
  const bare = Object.assign(Object.create(null), { db: 3 });
  assert.deepEqual({ ...location_from('e', 1, '', bare).options }, { db: 3 });
});

test('what options have from a class of the caller counts, as does what a proxy passes on', () => {
  class Defaults {
    get db() {
      return 4;
    }
  }
  Defaults.prototype.client_name = 'jobs';
  class Own extends Defaults {}
  assert.deepEqual({ ...location_from('e', 1, '', new Own()).options }, { db: 4, client_name: 'jobs' });
  const derived = Object.create({ db: 5 });
  assert.deepEqual({ ...location_from('e', 1, '', new Proxy(derived, {})).options }, { db: 5 });
  const settings = Object.create({ servername: 'n', ca: PEM });
  assert.deepEqual({ ...tls_from(settings) }, { ca: PEM, reject_unauthorized: true, servername: 'n' });
  assert.deepEqual(wait_options_from(Object.create({ timeout: 5 })), { timeout: 5, signal: undefined });
});
