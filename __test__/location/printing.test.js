// How an instance is printed whose `host` is a URL, or a part of one: without its secrets.
'use strict';

const assert = require('node:assert/strict');
const { test } = require('node:test');
const util = require('node:util');
const ReserveResource = require('../../index.js');
const { without_secrets } = require('../../lib/arguments/url');

const SECRET = 'Zq7vXw';

const printed = [
  [`redis://me:${SECRET}@e:1/2`, 'redis://me:[hidden]@e:1/2'],
  [`redis://:${SECRET}@e`, 'redis://:[hidden]@e'],
  [`rediss://me:${SECRET}%2F@[::1]?db=1`, 'rediss://me:[hidden]@[::1]?db=1'],
  [`redis://e?password=${SECRET}&db=1`, 'redis://e?password=[hidden]&db=1'],
  [`redis://e?passwrd=${SECRET}`, 'redis://e?[hidden]'],
  [`unix://me:${SECRET}@/r.sock`, 'unix://me:[hidden]@localhost/r.sock'],
  [`http://me:${SECRET}@e/`, 'http://me:[hidden]@e/'],
  // Any part of an invalid URL may be secret.
  [`redis://u:${SECRET}/${SECRET}@e`, '[hidden]'],
  [`redis://u:1/${SECRET}@e`, '[hidden]'],
  [`redis://u:1?${SECRET}@e`, '[hidden]'],
  [`redis://u:1#${SECRET}`, '[hidden]'],
  [`me:${SECRET}@e`, '[hidden]'],
  // The connection strings of StackExchange.Redis, and similar ones.
  [`e:6379,password=${SECRET}`, '[hidden]'],
  [`e;pwd=${SECRET}`, '[hidden]'],
  [`password=${SECRET}`, '[hidden]'],
  ['redis://e:1/2', 'redis://e:1/2'],
  ['redis.example.com', 'redis.example.com'],
  ['/run/a@b.sock', '/run/a@b.sock'],
];

for (const [host, shown] of printed) {
  test(`printed: ${shown}`, () => {
    assert.equal(without_secrets(host), shown);
    const options = { sentinelPassword: SECRET, tls: { key: SECRET } };
    const reservation = new ReserveResource('me', host, 1, 0, 2, false, SECRET, options);
    assert.equal(reservation.host, host, 'it reads back as it was given');
    reservation._init_redis();
    const texts = [
      util.inspect(reservation, { showHidden: true, depth: 9 }),
      util.format('%o %O %j', reservation, reservation, reservation),
      JSON.stringify({ nested: [reservation] }),
    ];
    for (const text of texts) {
      assert.ok(!text.includes(SECRET.slice(0, 3)), text);
      assert.ok(text.includes(shown), text);
    }
  });
}

test('an invalid port is printed like a host', () => {
  for (const port of [`tcp://me:${SECRET}@e:1`, `6379,password=${SECRET}`, `1@${SECRET}`]) {
    const reservation = new ReserveResource('me', 'e', port, 0, 2, false, '');
    for (const text of [util.inspect(reservation), JSON.stringify(reservation)]) {
      assert.ok(!text.includes(SECRET.slice(0, 3)), text);
      assert.match(text, /port"?: ?['"].*\[hidden\]/);
    }
  }
  assert.match(util.inspect(new ReserveResource('me', 'e', '6380')), /port: '6380'/);
  assert.ok(!('port' in JSON.parse(JSON.stringify(new ReserveResource('me', 'e')))));
});
