// Names of options and forms of a host from other clients: the error suggests ours where there is one, and no name that is
// not close. See support.js.
'use strict';

const { SECRET, VALUE, checkRefusals } = require('./support');

const NAME = { name: 'mymaster' };

checkRefusals([
  // Names without a suggestion.
  ...['ssl', 'tls'].map((name) => [
    `?${name}=`,
    [`redis://:${SECRET}@e?${name}=true`],
    VALUE,
    new RegExp(
      `"${name}" is not an option of the URL in host\\. For TLS begin the URL with rediss://.* Its options`,
    ),
  ]),
  ['?family=', ['redis://e?family=6'], VALUE, /"family" .*Leave it out: all addresses of a name are tried/],
  [
    '?lock_ttl=',
    ['redis://e?lock_ttl=6'],
    VALUE,
    /"lock_ttl" .*fifth argument of the constructor, in seconds/,
  ],
  [
    'nothing near',
    ['redis://e?zebra=1'],
    VALUE,
    /^"zebra" is not an option of the URL in host\. Its options/,
  ],
  ['another password', ['e', 0, '', { password: SECRET }], VALUE, /"password" .*seventh argument/],
  ['a short name', ['e', 0, '', { dn: 1 }], VALUE, /^"dn" is not an option of the constructor\. Its options/],
  ['ttl', ['e', 0, '', { ttl: 1 }], VALUE, /"ttl" .*lock_ttl is the fifth argument/],
  ['port', ['e', 0, '', { port: 1 }], VALUE, /"port" .*third argument/],
  [
    'retryStrategy',
    ['e', 0, '', { retryStrategy: () => 1 }],
    VALUE,
    /Leave it out: the connection is made again/,
  ],
  [
    'passphrase',
    ['e', 0, '', { tls: { passphrase: SECRET } }],
    VALUE,
    /"passphrase" .*Decrypt the key first/,
  ],
  [
    'a password of one of several',
    [null, 0, '', { ...NAME, sentinels: [{ host: 'a', password: SECRET }] }],
    VALUE,
    /"password" is not an option of sentinels\[0\]\. It is the same for all of them: .*sentinelPassword/,
  ],
  // The forms of a host of other clients.
  [
    'unix:',
    ['unix:/run/redis.sock'],
    VALUE,
    /^host must be .* unix: alone\. Write unix:\/\/\/run\/redis\.sock/,
  ],
  ['unix: of a secret', [`unix:/r.sock?password=${SECRET}`], VALUE, /unix: alone/],
  ...['./redis.sock', '../redis.sock', '~/redis.sock', 'redis.sock', 'run/redis.sock'].map((host) => [
    host,
    [host],
    VALUE,
    /^host must be the absolute path of a socket; it is a relative one\. Pass require\('path'\)/,
  ]),
  ...['redis+sentinel', 'redis-sentinel', 'rediss+sentinel', 'redis+cluster'].map((scheme) => [
    `${scheme}://`,
    [`${scheme}://:${SECRET}@a:26379/mymaster`],
    VALUE,
    /^host must be a URL of .*its scheme is another\. Pass no host, but options\.sentinels, .*options\.name/,
  ]),
  [
    'redis+unix://',
    [`redis+unix:///r.sock?password=${SECRET}`],
    VALUE,
    /its scheme is another\. .*unix:\/\/\/run/,
  ],
  ['redis+ssl://', [`redis+ssl://:${SECRET}@e`], VALUE, /its scheme is another\. .*rediss:\/\/user/],
  ['tcp://', [`tcp://e:6379`], VALUE, /its scheme is another\. It looks like redis:\/\//],
  ...['a:1,b:2', 'a,b', 'a:1,b:2/mymaster'].map((hosts) => [
    `redis://${hosts}`,
    [`redis://:${SECRET},x@${hosts}`],
    VALUE,
    /^host must be a URL of one host; there are several .*options\.sentinels.*options\.cluster/,
  ]),
  ...[
    `e:6379,password=${SECRET}`,
    `e.redis.cache.windows.net:6380,password=${SECRET}@x/y=,ssl=True,abortConnect=False`,
    `password=${SECRET}`,
    `host=e;password=${SECRET}`,
    `a:1,b:2`,
  ].map((host) => [
    host,
    [host],
    VALUE,
    /^host must be one name.*StackExchange\.Redis\. Pass its parts as host, port, password.*options\.tls/,
  ]),
  [
    'a connection string as port',
    ['e', `6379,password=${SECRET}`],
    VALUE,
    /^port must be a whole number from 1 to 65535; it is a string of 20 characters\./,
  ],
  [
    'several in one',
    [null, 0, '', { cluster: [{ host: 'a,b' }] }],
    VALUE,
    /^cluster\[0\]\.host must be a name/,
  ],
]);
