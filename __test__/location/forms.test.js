// How location.js finds out where redis is: every form of `host`, what arguments and options add, and the key prefix. Without
// a server.
'use strict';

const assert = require('node:assert/strict');
const { test } = require('node:test');
const util = require('node:util');
const { location_from, key_prefix_from } = require('../../lib/arguments/location');

/** A location in short: without defaults, and with a mark for certificates. */
function short(host, port, password, options) {
  // The location has no prototype, on purpose. Its clone has the usual one.
  const {
    key_prefix,
    options: native,
    ...rest
  } = structuredClone(location_from(host, port, password, options));
  if (native.tls && native.tls.ca.length > 10000) native.tls.ca = 'node';
  assert.equal(key_prefix, native.key_prefix === undefined ? 'reservation-' : native.key_prefix);
  const { host: where, port: number, password: secret } = rest;
  return [where, number, secret, native];
}

const verified = { tls: { ca: 'node', reject_unauthorized: true } };

const forms = [
  [undefined, ['127.0.0.1', 6379, '', {}]],
  [null, ['127.0.0.1', 6379, '', {}]],
  ['', ['127.0.0.1', 6379, '', {}]],
  ['redis.example.com', ['redis.example.com', 6379, '', {}]],
  ['redis_1', ['redis_1', 6379, '', {}]],
  ['münchen', ['münchen', 6379, '', {}]],
  ['10.0.0.1', ['10.0.0.1', 6379, '', {}]],
  ['::1', ['::1', 6379, '', {}]],
  ['[::1]', ['::1', 6379, '', {}]],
  ['fe80::1%eth0', ['fe80::1%eth0', 6379, '', {}]],
  ['/run/redis.sock', ['/run/redis.sock', 0, '', {}]],
  ['/run/a@b:c d.sock', ['/run/a@b:c d.sock', 0, '', {}]],
  ['unix:///run/redis.sock', ['/run/redis.sock', 0, '', {}]],
  ['unix:///run/a%20b.sock?db=2', ['/run/a b.sock', 0, '', { db: 2 }]],
  ['unix://me:p%40ss@/run/redis.sock', ['/run/redis.sock', 0, 'p@ss', { username: 'me' }]],
  ['unix://localhost/run/redis.sock', ['/run/redis.sock', 0, '', {}]],
  ['unix:///r.sock?username=me&password=p%26q', ['/r.sock', 0, 'p&q', { username: 'me' }]],
  ['redis://', ['127.0.0.1', 6379, '', {}]],
  ['redis:///3', ['127.0.0.1', 6379, '', { db: 3 }]],
  ['redis://example', ['example', 6379, '', {}]],
  ['REDIS://example/', ['example', 6379, '', {}]],
  [' redis://example\n', ['example', 6379, '', {}]],
  ['redis://example:6380/0', ['example', 6380, '', {}]],
  ['redis://[::1]:6380', ['::1', 6380, '', {}]],
  ['redis://m%C3%BCnchen', ['münchen', 6379, '', {}]],
  ['redis://:pass@example', ['example', 6379, 'pass', {}]],
  ['redis://me@example', ['example', 6379, '', { username: 'me' }]],
  ['redis://me:@example', ['example', 6379, '', { username: 'me' }]],
  ['redis://m%3Ae:%2F%3F%23%40%25@example/2', ['example', 6379, '/?#@%', { username: 'm:e', db: 2 }]],
  ['redis://me:p,w@example', ['example', 6379, 'p,w', { username: 'me' }]],
  ['redis://:p@ss@example', ['example', 6379, 'p@ss', {}]],
  ['valkey://:pass@example:1', ['example', 1, 'pass', {}]],
  ['rediss://example', ['example', 6379, '', verified]],
  ['valkeys://example:6380', ['example', 6380, '', verified]],
  [
    'redis://e?db=2&protocol=3&client_name=jobs',
    ['e', 6379, '', { db: 2, protocol: 3, client_name: 'jobs' }],
  ],
  ['redis://e/2?db=2', ['e', 6379, '', { db: 2 }]],
  [
    'redis://e?key_prefix=jobs%3A&min_replicas=1&connect_timeout=5&command_timeout=6&max_hold=7',
    [
      'e',
      6379,
      '',
      { key_prefix: 'jobs:', min_replicas: 1, connect_timeout: 5, command_timeout: 6, max_hold: 7 },
    ],
  ],
];

for (const [host, expected] of forms) {
  test(`host ${util.inspect(host)}`, () => assert.deepEqual(short(host), expected));
}

const PEM = '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----';
const KEY = '-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----';

const fillings = [
  ['the port', ['redis://e', '6380'], ['e', 6380, '', {}]],
  ['the same port', ['redis://e:6380', '6380'], ['e', 6380, '', {}]],
  ['the password', ['redis://me@e', null, 'pass'], ['e', 6379, 'pass', { username: 'me' }]],
  ['the same password', ['redis://:pass@e', null, 'pass'], ['e', 6379, 'pass', {}]],
  ['a number for a password', ['e', null, 12], ['e', 6379, '12', {}]],
  ['a port beside a socket', ['/r.sock', 6380, 'pass'], ['/r.sock', 0, 'pass', {}]],
  [
    'username and db',
    ['redis://:p@e', 0, '', { username: 'me', db: '4' }],
    ['e', 6379, 'p', { username: 'me', db: 4 }],
  ],
  [
    'the same of both',
    ['redis://me@e/4', 0, '', { username: 'me', db: 4 }],
    ['e', 6379, '', { username: 'me', db: 4 }],
  ],
  ['an empty username', ['e', 0, '', { username: '' }], ['e', 6379, '', {}]],
  ['tls', ['redis://e', 0, '', { tls: true }], ['e', 6379, '', verified]],
  ['no tls', ['e', 0, '', { tls: false }], ['e', 6379, '', {}]],
  ['tls in both', ['rediss://e', 0, '', { tls: {} }], ['e', 6379, '', verified]],
  [
    'all of tls',
    [
      'rediss://e',
      0,
      '',
      {
        tls: {
          ca: [PEM, Buffer.from(PEM)],
          cert: new Uint8Array(Buffer.from(PEM)),
          key: KEY,
          servername: 'n',
          rejectUnauthorized: false,
        },
      },
    ],
    [
      'e',
      6379,
      '',
      { tls: { ca: `${PEM}\n${PEM}`, cert: PEM, key: KEY, servername: 'n', reject_unauthorized: false } },
    ],
  ],
  [
    'sentinels',
    [
      null,
      '',
      'pass',
      {
        sentinels: [{ host: 'a' }, { host: '[::1]', port: '5000' }],
        name: 'mymaster',
        sentinelUsername: 'scout',
        sentinelPassword: 'other',
        tls: true,
      },
    ],
    [
      '',
      0,
      'pass',
      {
        sentinels: [
          { host: 'a', port: 26379 },
          { host: '::1', port: 5000 },
        ],
        name: 'mymaster',
        sentinel_username: 'scout',
        sentinel_password: 'other',
        ...verified,
      },
    ],
  ],
  [
    'an empty username for the sentinels',
    [null, 0, '', { sentinels: [{ host: 'a' }], name: 'n', sentinelUsername: '' }],
    ['', 0, '', { sentinels: [{ host: 'a', port: 26379 }], name: 'n' }],
  ],
  [
    'a cluster',
    [undefined, 0, '', { cluster: [{ host: 'a', port: null }], db: 1 }],
    ['', 0, '', { cluster: [{ host: 'a', port: 6379 }], db: 1 }],
  ],
  [
    'what is the default',
    ['e', 0, '', { db: 0, min_replicas: 0, key_prefix: 'reservation-', client_name: 'redis-reservation' }],
    ['e', 6379, '', {}],
  ],
  [
    'what is not',
    ['e', 0, '', { min_replicas: '2', key_prefix: '\ud800', client_name: 'me', protocol: '2' }],
    ['e', 6379, '', { min_replicas: 2, key_prefix: '\ufffd', client_name: 'me', protocol: 2 }],
  ],
  ['an empty prefix', ['e', 0, '', { key_prefix: '' }], ['e', 6379, '', { key_prefix: '' }]],
  ['nothing', ['e', 0, '', { db: null, tls: undefined, sentinels: null, name: null }], ['e', 6379, '', {}]],
];

for (const [what, given, expected] of fillings) {
  test(`arguments and options of a location: ${what}`, () => assert.deepEqual(short(...given), expected));
}

test('the key prefix, from each place that can set it', () => {
  for (const [host, options, prefix] of [
    [undefined, undefined, 'reservation-'],
    ['redis://e', {}, 'reservation-'],
    ['redis://e?db=1', null, 'reservation-'],
    ['redis://e?key_prefix=a', undefined, 'a'],
    ['redis://e?key_prefix=', { max_hold: 5 }, ''],
    ['e', { key_prefix: 'b' }, 'b'],
    ['e', { key_prefix: '\ud800' }, '\ufffd'],
    ['e', 5, 'reservation-'],
    // The prefix cannot be known.
    ['e', { key_prefix: 5 }, undefined],
    ['redis://e?key_prefx=a', undefined, undefined],
  ]) {
    assert.equal(key_prefix_from(host, options), prefix);
  }
});
