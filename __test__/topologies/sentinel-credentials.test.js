// Passwords and users of sentinels and of their servers: right, wrong, missing and superfluous ones; users with few rules; and
// no error, log line or printed instance shows a secret.
'use strict';

const assert = require('node:assert/strict');
const { suite, before, after, test } = require('node:test');
const { inspect } = require('node:util');
const { ReserveResource, askError, keepLog, makeReservation } = require('../support/reservation');
const { within, atOnce } = require('../support/wait');
const { addUser, changeUser, refused } = require('./support/acl');
const { connections } = require('./support/looks');
const { documentedRules, setinfo } = require('./support/rules');
const { startSentinels } = require('./support/sentinels');
const { accessTo, keyOf, throughSentinels } = require('./support/through-sentinels');

/** Each is different, so that a leak can be found anywhere. */
const secrets = {
  data: 'Data-h0rse@:/%',
  sentinel: 'Look "h0rse" @:/%',
  scout: 'Scout-h0rse@:/%',
  wrong: 'Wr0ng-h0rse',
};

/** Everything that can be printed of it. */
function textsOf(value) {
  const deep = { depth: 9, showHidden: true };
  return [inspect(value, deep), String(value), value.stack, JSON.stringify(value)].join('\n');
}

/**
 * A lock and a wait must fail at once with ERR_REDIS_AUTH and a matching message, and nothing that is printed may contain a
 * secret.
 */
async function assertRefused(t, kit, settings, words) {
  const log = keepLog();
  const reservation = throughSentinels(t, kit, { ...settings, log });
  for (const call of ['lock', 'wait_until_lock']) {
    // A connection that may still succeed is retried for 500 ms.
    const error = await within(
      10000,
      atOnce(450, () => askError((done) => reservation[call]('refused', done))),
    );
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
    ['wrong', secrets.wrong, /^Auth error: WRONGPASS .*'default' at the sentinel .*sentinelPassword/],
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

  test('a password that is corrected later opens another connection', async (t) => {
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

  test('a user with only the rules for locks can use locks', async (t) => {
    const rules = ['resetkeys', ...documentedRules('worker')];
    await changeUser(kit.nodes, acl.username, ...rules);
    await servedAs(t, kit, { options: { client_name: 'of-few-rights' } }, 'few rights');
  });
});

suite('sentinels with a user', () => {
  const [rules, remedy] = [documentedRules('scout'), /\. Pass sentinelUsername and sentinelPassword /];
  const scout = { username: 'scout', password: secrets.scout, rules };
  let kit;
  before(async () => {
    kit = await startSentinels(null, { replicas: 0, sentinelAcl: scout });
    // Older sentinels do not have it.
    await changeUser(kit.sentinels, 'scout', setinfo).catch(() => {});
  });
  after(() => kit.stop());

  test('the documented rules are enough', async (t) => {
    const options = { client_name: 'a-scout' };
    await servedAs(t, kit, { options }, 'right');
    for (const sentinel of kit.sentinels) {
      const users = (await connections(sentinel, 'a-scout')).map(({ user }) => user);
      assert.deepEqual(users, ['scout']);
      assert.deepEqual(await refused(sentinel, 'scout'), []);
    }
  });

  for (const [title, options, user] of [
    ['another user', { sentinelUsername: 'stranger' }, 'stranger'],
    ['no user', { sentinelUsername: null }, 'default'],
    ['a wrong password', { sentinelPassword: secrets.wrong }, 'scout'],
    ['no password', { sentinelPassword: null }, 'scout'],
    // They are not users of the servers.
    ['a user of the servers', { sentinelUsername: null, username: 'scout' }, 'default'],
  ]) {
    test(`refused: ${title}`, async (t) => {
      const words = `^Auth error: WRONGPASS .* \\(user '${user}' at the sentinel 127\\.0\\.0\\.1:\\d+ of `;
      await assertRefused(t, kit, { options }, new RegExp(words));
      await assertRefused(t, kit, { options }, remedy);
    });
  }

  test('the error names each missing rule, and adding it is enough', async (t) => {
    for (const [index, rule] of ['+sentinel|get-master-addr-by-name', '+sentinel|master'].entries()) {
      const username = `wanting-${index}`;
      await addUser(kit.sentinels, { ...scout, username, rules: rules.filter((one) => one !== rule) });
      const options = { sentinelUsername: username };
      const advice = /\. To allow it: ACL SETUSER (\S+) (.*)$/;
      await assertRefused(t, kit, { options }, new RegExp(`^Auth error: NOPERM .*${advice.source}`));
      const error = await askError((done) => throughSentinels(t, kit, { options }).lock('named', done));
      const [, named, rest] = advice.exec(error.message);
      assert.equal(named, username);
      assert.ok(rest.split(' ').includes(rule), rest);
      await changeUser(kit.sentinels, username, ...rest.split(' '));
      await servedAs(t, kit, { options }, 'named');
    }
  });

  test('rules that are not needed may be missing', async (t) => {
    const needed = rules.filter((rule) => !rule.startsWith('+client|'));
    await addUser(kit.sentinels, { ...scout, username: 'least', rules: needed });
    await servedAs(t, kit, { options: { sentinelUsername: 'least' } }, 'least');
  });

  test('a user with nopass may log in without a password, and with any', async (t) => {
    await changeUser(kit.sentinels, 'open', 'on', 'nopass', ...rules);
    for (const sentinelPassword of [null, secrets.wrong]) {
      await servedAs(t, kit, { options: { sentinelUsername: 'open', sentinelPassword } }, 'open');
    }
  });

  test('a user that is corrected later opens another connection', async (t) => {
    const options = { ...accessTo(kit).options, sentinelUsername: 'stranger' };
    const reservation = makeReservation(t, { host: null, port: null }, { options });
    await assert.rejects(reservation.lock('later'), { code: 'ERR_REDIS_AUTH' });
    options.sentinelUsername = 'scout';
    assert.equal(await reservation.lock('later'), true);
  });
});

suite('sentinels and servers that ask for no password', () => {
  let kit;
  before(async () => {
    kit = await startSentinels(null, { replicas: 1 });
  });
  after(() => kit.stop());

  // As everywhere: environments with and without passwords may share a configuration.
  test('a password for the servers is accepted', (t) => servedAs(t, kit, { password: secrets.data }, 'data'));

  test('a password for the sentinels is accepted', (t) =>
    servedAs(t, kit, { options: { sentinelPassword: secrets.sentinel } }, 'sentinel'));
});
