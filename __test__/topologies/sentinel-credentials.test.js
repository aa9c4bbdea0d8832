// Passwords and users with sentinels: theirs and those of the servers, right, wrong, missing and superfluous; a user of
// few rights; and that no error, line or printed instance shows a secret.
'use strict';

const assert = require('node:assert/strict');
const { suite, before, after, test } = require('node:test');
const { inspect } = require('node:util');
const { ReserveResource, askError, keepLog } = require('../support/reservation');
const { within } = require('../support/wait');
const { changeUser } = require('./support/acl');
const { startSentinels } = require('./support/sentinels');
const { keyOf, throughSentinels } = require('./support/through-sentinels');

/** Each in a form of its own, so that it is found wherever it appears. */
const secrets = { data: 'Data-h0rse@:/%', sentinel: 'Look "h0rse" @:/%', wrong: 'Wr0ng-h0rse' };

/** Everything that somebody could print of it. */
function textsOf(value) {
  const deep = { depth: 9, showHidden: true };
  return [inspect(value, deep), String(value), value.stack, JSON.stringify(value)].join('\n');
}

/**
 * That a lock and a wait are refused at once, as a matter of credentials, in words that match, and nothing that is
 * printed of it holds a secret.
 */
async function assertRefused(t, kit, settings, words) {
  const log = keepLog();
  const reservation = throughSentinels(t, kit, { ...settings, log });
  for (const call of ['lock', 'wait_until_lock']) {
    const start = performance.now();
    const error = await within(
      10000,
      askError((done) => reservation[call]('refused', done)),
    );
    // 500 ms is what a connection is retried for that may yet be had.
    assert.ok(performance.now() - start < 450, `at once: ${performance.now() - start} ms`);
    assert.equal(error.code, 'ERR_REDIS_AUTH', error.message);
    assert.ok(error instanceof ReserveResource.RedisAuthError);
    assert.match(error.message, words);
    assert.ok(error.message.includes(kit.name), `which master: ${error.message}`);
    assert.doesNotMatch(textsOf(error), /h0rse/);
  }
  assert.ok(log.of('redis-error').length >= 2, 'logged');
  assert.doesNotMatch(JSON.stringify(log.events), /h0rse/);
  assert.doesNotMatch(textsOf(reservation), /h0rse/);
}

const servedAs = async (t, kit, settings, resource) => {
  const reservation = throughSentinels(t, kit, settings);
  assert.equal(await reservation.lock(resource), true);
  assert.equal(await kit.nodes[0].command('GET', keyOf(resource)), reservation._reserve_val);
  assert.equal(await reservation.release(), 1);
  assert.doesNotMatch(textsOf(reservation), /h0rse/);
};

suite('sentinels and servers with passwords', () => {
  let kit;
  before(async () => {
    kit = await startSentinels(null, {
      replicas: 1,
      password: secrets.data,
      sentinelPassword: secrets.sentinel,
    });
  });
  after(() => kit.stop());

  test('both right', (t) => servedAs(t, kit, {}, 'right'));

  for (const [title, sentinelPassword, words] of [
    ['wrong', secrets.wrong, /^Auth error: WRONGPASS .*sentinelPassword/],
    ['that of the servers', secrets.data, /^Auth error: WRONGPASS .*sentinelPassword/],
    ['missing', null, /^Auth error: NOAUTH /],
  ]) {
    test(`sentinelPassword ${title}`, (t) => assertRefused(t, kit, { options: { sentinelPassword } }, words));
  }

  for (const [title, password, words] of [
    ['wrong', secrets.wrong, /^Auth error: WRONGPASS /],
    ['that of the sentinels', secrets.sentinel, /^Auth error: WRONGPASS /],
    ['missing', '', /^Auth error: NOAUTH /],
  ]) {
    test(`the servers’ password ${title}`, (t) => assertRefused(t, kit, { password }, words));
  }

  test('a password that is set right later is another connection', async (t) => {
    const reservation = throughSentinels(t, kit, { password: secrets.wrong });
    await assert.rejects(reservation.lock('later'), { code: 'ERR_REDIS_AUTH' });
    reservation.password = secrets.data;
    assert.equal(await reservation.lock('later'), true);
  });
});

suite('servers with a user', () => {
  const acl = { username: 'worker', password: secrets.data, rules: ['~reservation-*', '&*', '+@all'] };
  let kit;
  before(async () => {
    kit = await startSentinels(null, { replicas: 1, acl });
  });
  after(() => kit.stop());

  test('right', (t) => servedAs(t, kit, {}, 'right'));

  test('a wrong password, another user, and none', async (t) => {
    await assertRefused(t, kit, { password: secrets.wrong }, /^Auth error: WRONGPASS .*'worker'/);
    await assertRefused(t, kit, { options: { username: 'stranger' } }, /^Auth error: WRONGPASS .*'stranger'/);
    await assertRefused(t, kit, { options: { username: null } }, /^Auth error: WRONGPASS .*'default'/);
  });

  test('one who may do what locks need alone', async (t) => {
    const locks = ['set', 'get', 'del', 'getex', 'pexpire', 'pttl', 'evalsha', 'eval', 'script|load'];
    const connections = ['info', 'tracking', 'caching', 'kill', 'setname'].map((name) => `client|${name}`);
    const rules = [
      'resetkeys',
      '~reservation-*',
      '-@all',
      ...[...locks, ...connections].map((name) => `+${name}`),
    ];
    await changeUser(kit.nodes, acl.username, ...rules);
    await servedAs(t, kit, { options: { client_name: 'of-few-rights' } }, 'few rights');
  });
});

suite('sentinels and servers that ask for no password', () => {
  let kit;
  before(async () => {
    kit = await startSentinels(null, { replicas: 1 });
  });
  after(() => kit.stop());

  // As everywhere: configurations are shared between environments with passwords and without.
  test('a password for the servers is accepted', (t) => servedAs(t, kit, { password: secrets.data }, 'data'));

  test('a password for the sentinels is accepted', (t) =>
    servedAs(t, kit, { options: { sentinelPassword: secrets.sentinel } }, 'sentinel'));
});
