// Members of a polluted Object.prototype are never read as options. Members that options inherit from a class are.
'use strict';

const assert = require('node:assert/strict');
const { test } = require('node:test');
const vm = require('node:vm');
const { wait_options_from } = require('../../lib/arguments/values');
const { endpoint_from, key_prefix_from, location_from } = require('../../lib/arguments/location');
const { tls_from } = require('../../lib/arguments/tls');

const PEM = '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----';

// Every name that the package reads, with a value that would show.
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

/** The result of `work` while Object.prototype is polluted, with all readable members, as plain objects. */
function polluted(work) {
  // One after another, and all at once: together, one might hide another.
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

/** Every member that the native side would find, which reads them by name. */
function seen(value) {
  if (typeof value !== 'object' || value === null) return value;
  // Of several servers, both members are own ones.
  if (Array.isArray(value)) return value.map((member) => ({ ...member }));
  const found = {};
  for (const name of new Set([...Object.keys(POLLUTION), ...Object.keys(value)])) {
    if (value[name] !== undefined)
      Object.defineProperty(found, name, { value: seen(value[name]), enumerable: true });
  }
  return found;
}

const places = [
  ['no arguments', () => location_from(undefined, undefined, undefined, undefined)],
  ['a host without options', () => location_from('e', 1, 'pw', {})],
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
  ['a wait without options', () => wait_options_from({})],
];

for (const [what, work] of places) {
  test(`a polluted Object.prototype adds nothing to ${what}`, () => {
    const expected = seen(strip(work()));
    for (const [names, result] of polluted(() => strip(work()))) assert.deepEqual(result, expected, names);
  });
}

/** One object that is taken apart at once: only its own members count. */
function strip(whole) {
  return typeof whole === 'object' ? Object.assign(Object.create(null), whole) : whole;
}

test('a polluted Object.prototype of another realm adds nothing, and an object without a prototype is read', () => {
  const foreign = vm.runInNewContext('Object.prototype.db = 3; ({ max_hold: 5 })');
  assert.deepEqual({ ...location_from('e', 1, '', foreign).options }, { max_hold: 5 });
  const bare = Object.assign(Object.create(null), { db: 3 });
  assert.deepEqual({ ...location_from('e', 1, '', bare).options }, { db: 3 });
});

test('members that options inherit from a class, or get through a Proxy, are read', () => {
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
