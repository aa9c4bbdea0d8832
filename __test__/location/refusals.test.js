// Invalid locations of redis, and the error of each. See support.js.
'use strict';

const assert = require('node:assert/strict');
const { test } = require('node:test');
const util = require('node:util');
const { location_from } = require('../../lib/arguments/location');
const { SECRET, TYPE, VALUE, checkRefusals } = require('./support');

const PEM = '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----';
const KEY = '-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----';

const sentinels = [{ host: 'a' }];
const cluster = [{ host: 'a' }];
const NAME = { name: 'mymaster' };
const notPem = { ca: SECRET };

/** [what, [host, port, password, options], code, the message or parts of it] */
const refusals = [
  // Texts that are no URL, or only a part of one.
  [`${SECRET}@e`, [`${SECRET}@e`], VALUE, /^host must be a name, .* URL; there is an @ in it/],
  [
    'another scheme',
    [`http://:${SECRET}@e`],
    VALUE,
    /^host must be a URL of redis:\/\/, .*unix:\/\/; its scheme/,
  ],
  ['no scheme', [`://${SECRET}`], VALUE, /^host must be a URL that can be read/],
  ['two of them', [`a:redis://${SECRET}`], VALUE, /^host must be a URL that can be read/],
  ['a newline inside', [`redis://:${SECRET}\n${SECRET}@e`], VALUE, /^host must be a URL that can be read/],
  ['a / in the password', [`redis://u:${SECRET}/${SECRET}@e`], VALUE, /%2F/],
  ['a / after digits', [`redis://u:1/${SECRET}@e`], VALUE, /an @ or a # after its host.*%2F/],
  ['a ? after digits', [`redis://u:1?${SECRET}@e`], VALUE, /an @ or a # after its host.*%3F/],
  ['a # after digits', [`redis://u:1#${SECRET}`], VALUE, /an @ or a # after its host.*%23/],
  ['a % in the password', [`redis://:${SECRET}%@e`], VALUE, /%25/],
  ['no such port', ['redis://e:70000'], VALUE, /^host must be a URL that can be read/],
  [
    'port 0',
    ['redis://e:0'],
    VALUE,
    /^port in the URL in host must be a whole number from 1 to 65535; it is "0"/,
  ],
  ['a path', [`redis://e/${SECRET}`], VALUE, /^host must be a URL whose path is empty or the number/],
  [
    'a socket of a host',
    ['unix://run/redis.sock'],
    VALUE,
    /^host must be a unix:\/\/ URL of an absolute path.*Three/,
  ],
  ['no path', ['unix://'], VALUE, /^host must be a unix:\/\/ URL/],
  ['a NUL in a path', ['/run/\0'], VALUE, /^host must be the path of a socket; there is a NUL/],
  ['a host with a space', ['redis://a%20b'], VALUE, /^host must be a name or an address/],
  ['an unknown query', [`redis://:${SECRET}@e?dbb=1`], VALUE, /"dbb" is not an option of the URL.*mean db\?/],
  ['another in camel case', ['redis://e?clientName=x'], VALUE, /"clientName".*mean client_name\?/],
  ['one by another name', ['redis://e?database=1'], VALUE, /"database".*mean db\?/],
  ['db in words', ['redis://e?db=two'], VALUE, /^db in the URL in host must be a whole number .*it is "two"/],
  ['protocol 4', ['redis://e?protocol=4'], VALUE, /^protocol in the URL in host must be 2 or 3; it is "4"/],
  ['a client with a space', ['redis://e?client_name=a+b'], VALUE, /^client_name in the URL in host must/],
  ['two db', ['redis://e?db=1&db=2'], VALUE, /^db is given twice in the URL/],
  ['two more', ['redis://e/1?db=2'], VALUE, /^db must be the same .* as its path, and differs: 2 and 1/],
  [
    'two passwords',
    [`redis://:${SECRET}@e?password=x${SECRET}`],
    VALUE,
    /^password is given twice in the URL/,
  ],
  // Invalid host names.
  [
    'a port in the host',
    ['redis.example.com:6379'],
    VALUE,
    /^host must be a name or an address alone.*as port/,
  ],
  ['a name in brackets', ['[name]'], VALUE, /^host must be .*is no IPv6 address/],
  ['no address', ['::1::'], VALUE, /^host must be .*is no IPv6 address/],
  ...['a b', 'name\n', 'a/b', 'a\\b', 'a?b', 'a#b', 'a\0', ' '].map((host) => [
    JSON.stringify(host),
    [host],
    VALUE,
    /^host must be a name or an address/,
  ]),
  [`an array`, [['h']], TYPE, /^host must be a string; it is an instance of Array/],
  // Values that are set twice.
  [
    'another port',
    ['redis://e:1', 2],
    VALUE,
    /^port must be the same .*in the URL in host and as port.*: 1 and 2/,
  ],
  [
    'another password',
    [`redis://:${SECRET}@e`, 0, `x${SECRET}`],
    VALUE,
    /^password must be the same .*in the URL in host and as password, and differs\. Leave one out/,
  ],
  [
    'another user',
    [`redis://${SECRET}@e`, 0, '', { username: `x${SECRET}` }],
    VALUE,
    /^username .*options\.username/,
  ],
  ['another db', ['redis://e/1', 0, '', { db: 0 }], VALUE, /^db must be the same .*options\.db.*: 1 and 0/],
  [
    'another prefix',
    ['redis://e?key_prefix=a', 0, '', { key_prefix: 'b' }],
    VALUE,
    /^key_prefix must be the same/,
  ],
  [
    'no tls in a rediss',
    ['rediss://e', 0, '', { tls: false }],
    VALUE,
    /^tls must be the same .*scheme .*options\.tls/,
  ],
  // Options that exclude each other.
  ['tls on a socket', ['/r.sock', 0, '', { tls: true }], VALUE, /^tls must not .*unix socket/],
  [
    'sentinels and cluster',
    [null, 0, '', { sentinels, cluster, ...NAME }],
    VALUE,
    /^sentinels .* together with cluster/,
  ],
  ['sentinels and host', ['e', 0, '', { sentinels, ...NAME }], VALUE, /^host .* together with sentinels/],
  ['sentinels and port', [null, 1, '', { sentinels, ...NAME }], VALUE, /^port .* together with sentinels/],
  [
    'cluster and a URL',
    [`redis://:${SECRET}@e`, 0, '', { cluster }],
    VALUE,
    /^host .* together with cluster/,
  ],
  ['cluster and port', [null, '1', '', { cluster }], VALUE, /^port .* together with cluster/],
  ['no name', [null, 0, '', { sentinels }], VALUE, /^name must be given with sentinels; it is missing/],
  ['an empty name', [null, 0, '', { sentinels, name: '' }], VALUE, /^name must be .*mymaster; it is ""/],
  ['a name for nothing', ['e', 0, '', NAME], VALUE, /^name must be given with sentinels alone/],
  [
    'a name for a cluster',
    [null, 0, '', { cluster, ...NAME }],
    VALUE,
    /^name must be given with sentinels alone/,
  ],
  [
    'a password for nothing',
    ['e', 0, '', { sentinelPassword: SECRET }],
    VALUE,
    /^sentinelPassword must be given with/,
  ],
  [
    'a user for nothing',
    ['e', 0, '', { sentinelUsername: 'me' }],
    VALUE,
    /^sentinelUsername must be given with sentinels alone; .*leave sentinelUsername out/,
  ],
  [
    'a user for a cluster',
    [null, 0, '', { cluster, sentinelUsername: 'me' }],
    VALUE,
    /^sentinelUsername must be given with sentinels alone/,
  ],
  ['cert without key', ['e', 0, '', { tls: { cert: PEM } }], VALUE, /^tls\.key must be given with tls\.cert/],
  ['key without cert', ['e', 0, '', { tls: { key: KEY } }], VALUE, /^tls\.cert must be given with tls\.key/],
  // Names of options.
  [
    'an unknown option',
    ['e', 0, '', { databse: 1 }],
    VALUE,
    /"databse" is not an option of the constructor.*mean/,
  ],
  ['camel case', ['e', 0, '', { keyPrefix: 'x' }], VALUE, /"keyPrefix".*mean key_prefix\?/],
  [
    'snake case',
    ['e', 0, '', { sentinel_password: SECRET }],
    VALUE,
    /"sentinel_password".*mean sentinelPassword\?/,
  ],
  ...['sentinel_username', 'sentinelUser', 'sentinelUserName'].map((name) => [
    name,
    ['e', 0, '', { [name]: 'me' }],
    VALUE,
    new RegExp(`"${name}".*mean sentinelUsername\\?`),
  ]),
  ['ssl', ['e', 0, '', { ssl: true }], VALUE, /"ssl".*mean tls\?/],
  ['user', ['e', 0, '', { user: 'x' }], VALUE, /"user".*mean username\?/],
  ['min_replica', ['e', 0, '', { min_replica: 1 }], VALUE, /"min_replica".*mean min_replicas\?/],
  ['in tls', ['e', 0, '', { tls: { caFile: 'x' } }], VALUE, /"caFile" is not an option of tls.*mean ca\?/],
  ['in tls, too', ['e', 0, '', { tls: { reject_unauthorized: 1 } }], VALUE, /mean rejectUnauthorized\?/],
  [
    'in sentinels',
    [null, 0, '', { ...NAME, sentinels: [{ host: 'a' }, { hots: 'b' }] }],
    VALUE,
    /"hots" is not an option of sentinels\[1\].*mean host\?/,
  ],
  ['in cluster', [null, 0, '', { cluster: [{ host: 'a', prot: 1 }] }], VALUE, /cluster\[0\].*mean port\?/],
  // Values of options.
  ...[-1, 1.5, 'two', NaN, Infinity, true, {}, 2 ** 31].flatMap((value) => [
    [`db ${util.inspect(value)}`, ['e', 0, '', { db: value }], VALUE, /^db must be a whole number from 0/],
    [
      `min_replicas ${util.inspect(value)}`,
      ['e', 0, '', { min_replicas: value }],
      VALUE,
      /^min_replicas must be/,
    ],
  ]),
  ...[1, 4, 'three', true].map((protocol) => [
    `protocol ${protocol}`,
    ['e', 0, '', { protocol }],
    VALUE,
    /^protocol must be 2 or 3; it is .*Leave it out/,
  ]),
  ...['', 'a b', 'a\nb', 'ä', '\x7f'].map((client_name) => [
    `client_name ${JSON.stringify(client_name)}`,
    ['e', 0, '', { client_name }],
    VALUE,
    /^client_name must be of visible ASCII/,
  ]),
  ...['username', 'client_name', 'key_prefix', 'name', 'sentinelUsername'].map((option) => [
    `${option} 5`,
    ['e', 0, '', { [option]: 5 }],
    TYPE,
    new RegExp(`^${option} must be a string; it is 5`),
  ]),
  [
    'sentinelPassword {}',
    ['e', 0, '', { sentinelPassword: { SECRET } }],
    TYPE,
    /^sentinelPassword must be a string/,
  ],
  ...['sentinels', 'cluster'].flatMap((group) => [
    [
      `${group}, a text`,
      [null, 0, '', { [group]: `${SECRET}:1` }],
      TYPE,
      new RegExp(`^${group} must be an array`),
    ],
    [
      `${group}, empty`,
      [null, 0, '', { [group]: [] }],
      VALUE,
      new RegExp(`^${group} must name at least one`),
    ],
    [
      `${group} of texts`,
      [null, 0, '', { [group]: [SECRET] }],
      TYPE,
      new RegExp(`^${group}\\[0\\] must be an object`),
    ],
    [
      `${group} of null`,
      [null, 0, '', { [group]: [null] }],
      TYPE,
      new RegExp(`^${group}\\[0\\] must be .*null`),
    ],
    [
      `${group} of holes`,
      [null, 0, '', { [group]: new Array(1) }],
      TYPE,
      new RegExp(`^${group}\\[0\\] must be`),
    ],
    [
      `${group} without a host`,
      [null, 0, '', { [group]: [{ port: 1 }] }],
      TYPE,
      /\[0\]\.host must be .*undefined/,
    ],
    [
      `${group}, a URL`,
      [null, 0, '', { [group]: [{ host: `redis://${SECRET}@e` }] }],
      VALUE,
      /\[0\]\.host must be/,
    ],
    [`${group}, a path`, [null, 0, '', { [group]: [{ host: '/r.sock' }] }], VALUE, /\[0\]\.host must be/],
    [
      `${group}, a port`,
      [null, 0, '', { [group]: [{ host: 'a', port: 'x' }] }],
      VALUE,
      /\[0\]\.port must be .*"x"/,
    ],
  ]),
  ...[SECRET, 1, ['x'], Buffer.from(SECRET)].map((tls) => [
    `tls of type ${typeof tls}`,
    ['e', 0, '', { tls }],
    TYPE,
    /^tls must be true, false or an object of ca, cert, key, servername, rejectUnauthorized; it is/,
  ]),
  [
    'a name for a file',
    ['e', 0, '', { tls: notPem }],
    VALUE,
    /^tls\.ca must be certificates in PEM.*readFileSync/,
  ],
  [
    'one of several',
    ['e', 0, '', { tls: { ca: [PEM, SECRET] } }],
    VALUE,
    /^tls\.ca must be certificates in PEM/,
  ],
  ['no certificates', ['e', 0, '', { tls: { ca: [] } }], VALUE, /^tls\.ca must hold something/],
  ['a number', ['e', 0, '', { tls: { ca: 5 } }], TYPE, /^tls\.ca must be a string, a Buffer or an array/],
  ['an array of null', ['e', 0, '', { tls: { ca: [null] } }], TYPE, /^tls\.ca must be .*null/],
  [
    'a key for a cert',
    ['e', 0, '', { tls: { cert: `${KEY}${SECRET}`, key: KEY } }],
    VALUE,
    /^tls\.cert must be cert/,
  ],
  [
    'no key',
    ['e', 0, '', { tls: { cert: PEM, key: SECRET } }],
    VALUE,
    /^tls\.key must be a private key in PEM/,
  ],
  ...[`-----BEGIN ENCRYPTED PRIVATE KEY-----\n${SECRET}`, `Proc-Type: 4,ENCRYPTED\n${SECRET}`].map((key) => [
    'an encrypted key',
    ['e', 0, '', { tls: { cert: PEM, key } }],
    VALUE,
    /^tls\.key must be a private key that is not encrypted/,
  ]),
  ...['OPENSSH PRIVATE KEY', 'DSA PRIVATE KEY', 'PUBLIC KEY'].map((kind) => [
    `a key of another kind: ${kind}`,
    ['e', 0, '', { tls: { cert: PEM, key: `-----BEGIN ${kind}-----\n${SECRET}\n-----END ${kind}-----` } }],
    VALUE,
    new RegExp(`^tls\\.key must be a private key of RSA, EC or Ed25519 in PEM; it is of the kind ${kind}\\.`),
  ]),
  [
    'an encrypted key, of one line',
    ['e', 0, '', { tls: { cert: PEM, key: `\ufeff-----BEGIN ENCRYPTED PRIVATE KEY-----\\n${SECRET}` } }],
    VALUE,
    /^tls\.key must be a private key that is not encrypted/,
  ],
  [
    'an empty servername',
    ['e', 0, '', { tls: { servername: '' } }],
    VALUE,
    /^tls\.servername must be a name/,
  ],
  ['a number for it', ['e', 0, '', { tls: { servername: 5 } }], TYPE, /^tls\.servername must be a name.* 5/],
  [
    'a text for false',
    ['e', 0, '', { tls: { rejectUnauthorized: 'false' } }],
    TYPE,
    /^tls\.rejectUnauthorized must be/,
  ],
];

checkRefusals(refusals);

test('options that are no object are refused', () => {
  for (const options of [5, 'x', true, Symbol('x'), () => {}]) {
    assert.throws(() => location_from('e', 0, '', options), {
      code: TYPE,
      message: /options of the constructor/,
    });
  }
});
