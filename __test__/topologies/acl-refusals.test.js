// The errors of users without a permission: they come at once, name code, command, key and the missing rule (and that rule is
// enough), and contain no password. Also user names in options and in URLs.
'use strict';

const assert = require('node:assert/strict');
const { test } = require('node:test');
const { until, within } = require('../support/wait');
const { addUser, changeUser, randomPassword } = require('./support/acl');
const { assertHidden, connections, errorOf, patient, reserve } = require('./support/looks');
const { startNode } = require('./support/node');
const { addWorker, everyServer, optional, rules, scripts } = require('./support/rules');

const username = 'worker';

/** The error comes without a retry, names user and host, and hides the password. */
async function refusalOf(start, server, { password, user = username }) {
  const began = performance.now();
  const error = await within(20000, errorOf(start()), 'the refusal');
  assert.equal(error.code, 'ERR_REDIS_AUTH', error.message);
  assert.ok(performance.now() - began < 1500, `at once: ${performance.now() - began} ms`);
  assert.match(error.message, /^Auth error: /);
  assert.ok(error.message.includes(`(user '${user}' at ${server.address})`), error.message);
  if (password) assertHidden(error, password, encodeURIComponent(password));
  return error;
}

/** The rules that a message recommends. */
function advised(error) {
  const found = /\. To allow it: ACL SETUSER worker ([^(]+)/.exec(error.message);
  assert.ok(found, error.message);
  return found[1].trim().split(' ');
}

const holding = (one) => one.lock('job');

/** Holds until a renewal would change the ttl: before redis 7, the script runs PEXPIRE only then. */
async function renewable(one, server) {
  const isHeld = await holding(one);
  const left = () => server.command('PTTL', one._reserve_key);
  await until(async () => (await left()) < 60000, { ...patient, what: 'a shorter ttl' });
  return isHeld;
}

/**
 * The missing rule, a call that needs it, and the command that the message must name: that of the script where redis itself
 * names no other.
 */
const missing = [
  { without: ['+set'], call: (one) => one.lock('job'), command: 'set' },
  { without: ['+set'], call: (one) => one.wait_until_lock('job', { timeout: 10000 }), command: 'set' },
  { without: ['+evalsha'], before: holding, call: (one) => one.release(), command: 'evalsha' },
  { without: ['+evalsha'], before: holding, call: (one) => one.ensure_reservation(), command: 'evalsha' },
  { without: scripts, before: holding, call: (one) => one.release(), command: 'eval' },
  { without: ['+get'], before: holding, call: (one) => one.release(), command: 'get' },
  { without: ['+del'], before: holding, call: (one) => one.release(), command: 'del' },
  { without: ['+pexpire'], before: renewable, call: (one) => one.ensure_reservation(), command: 'pexpire' },
  { without: [optional.db], call: (one) => one.lock('job'), command: 'select', options: { db: 2 } },
  { without: [optional.min_replicas], call: holding, command: 'wait', options: { min_replicas: 1 } },
];

for (const { title, server: name, skip } of everyServer) {
  test(
    `the error names each missing permission, and adding it is enough, on ${title}`,
    { skip },
    async (t) => {
      const server = await startNode(t, { server: name });
      for (const { without, before, call, command, options } of missing) {
        await t.test(`${without}, at ${call.toString().replace(/^.*?=> /, '')}`, async (tt) => {
          await server.command('FLUSHALL');
          await server.command('SCRIPT', 'FLUSH');
          const { password } = await addWorker(server, { without });
          const settings = { password, interval: 60000, ttl: 60 };
          const given = { username, ...options };
          const reservation = reserve(tt, server, given, settings);
          if (before) assert.equal(await before(reservation, server), true);
          const error = await refusalOf(() => call(reservation), server, { password });
          // Redis before 7.2 does not name the command inside a script. The message then names all that scripts use.
          assert.match(error.message, new RegExp(`['+]${command}\\b`));
          const rule = advised(error);
          assert.ok(rule.includes(`+${command}`), `${rule}`);
          await changeUser(server, username, ...rule);
          given.command_timeout = 300; // the call may spend all of it to find out that there are no replicas
          const again = await call(reservation).catch((caught) => caught);
          assert.notEqual(again && again.code, 'ERR_REDIS_AUTH', again && again.message);
          await reservation.release();
        });
      }
    },
  );

  test(`keys that the user may not use, on ${title}`, { skip }, async (t) => {
    const server = await startNode(t, { server: name });
    const { password } = await addWorker(server, {
      without: ['~reservation-*'],
      rules: [...rules, '~other-*'],
    });
    for (const call of ['lock', 'wait_until_lock']) {
      const reservation = reserve(t, server, { username }, { password });
      const error = await refusalOf(() => reservation[call]('job'), server, { password });
      assert.match(error.message, /key/);
      assert.deepEqual(advised(error), ['~reservation-*']);
    }
    const own = reserve(t, server, { username, key_prefix: 'other-' }, { password });
    assert.equal(await own.lock('job'), true);
    assert.equal(await server.command('GET', 'other-job'), own._reserve_val);
    assert.equal(await own.release(), 1);
    await changeUser(server, username, '~reservation-*');
    assert.equal(await reserve(t, server, { username }, { password }).lock('job'), true);
  });

  test(
    `refused logins: a wrong password, a user that is off or unknown, no user, on ${title}`,
    { skip },
    async (t) => {
      const acl = { username, password: randomPassword(), rules };
      const server = await startNode(t, { server: name, acl });
      await addUser(server, { username: 'absent', password: acl.password, rules: ['off'] });
      const attempts = [
        [{ username }, randomPassword(), username, /WRONGPASS/],
        [{ username }, '', username, /WRONGPASS/],
        [{ username: 'absent' }, acl.password, 'absent', /WRONGPASS/],
        [{ username: 'nobody' }, acl.password, 'nobody', /WRONGPASS/],
        [{}, acl.password, 'default', /WRONGPASS/],
        [{}, '', 'default', /NOAUTH/],
      ];
      for (const [options, password, user, words] of attempts) {
        const reservation = reserve(t, server, options, { password });
        for (const call of ['lock', 'wait_until_lock']) {
          const error = await refusalOf(() => reservation[call]('job'), server, { password, user });
          assert.match(error.message, words);
          assert.doesNotMatch(error.message, /ACL SETUSER/, 'no rule would help');
        }
      }
      const reservation = reserve(t, server, { username }, { password: 'wrong' });
      await errorOf(reservation.lock('job'));
      reservation.password = acl.password;
      assert.equal(await reservation.lock('job'), true, 'the password counts as it is at the call');
    },
  );
}

test('a user with nopass may log in without a password, and with any', async (t) => {
  const server = await startNode(t);
  await server.command('ACL', 'SETUSER', 'open', 'on', 'nopass', ...rules);
  for (const [index, password] of ['', 'whatever'].entries()) {
    const reservation = reserve(t, server, { username: 'open' }, { password });
    assert.equal(await reservation.lock(`job ${index}`), true);
  }
  assert.deepEqual(
    (await connections(server)).map(({ user }) => user),
    ['open', 'open'],
    'it is not the default user',
  );
});

test('user and password may be set by options, by a URL, or by both if they are equal', async (t) => {
  const acl = { username: 'work:er@home', password: randomPassword() };
  const server = await startNode(t, { acl });
  const [user, secret] = [acl.username, acl.password].map(encodeURIComponent);
  const { host, port } = server;
  const forms = [
    [server.host, { username: acl.username }, acl.password],
    [`redis://${user}:${secret}@${host}:${port}`, {}, ''],
    [`redis://${host}:${port}?username=${user}&password=${secret}`, {}, ''],
    [`redis://${user}@${host}:${port}`, {}, acl.password],
    [`redis://:${secret}@${host}:${port}`, { username: acl.username }, ''],
    [`redis://${user}:${secret}@${host}:${port}`, { username: acl.username }, acl.password],
  ];
  const settings = (place, password) => ({ host: place, port: place === host ? port : null, password });
  for (const [index, [place, options, password]] of forms.entries()) {
    const reservation = reserve(t, server, options, settings(place, password));
    assert.equal(await within(patient.timeout, reservation.lock(`job ${index}`)), true, place);
  }
  const clients = await connections(server);
  assert.deepEqual(
    clients.map((client) => client.user),
    [acl.username],
    'all of these are one endpoint',
  );
  const url = `redis://${user}:${secret}@${host}:${port}`;
  for (const [field, options, password] of [
    ['username', { username: 'another' }, ''],
    ['password', {}, 'another-secret'],
  ]) {
    const error = await errorOf(reserve(t, server, options, settings(url, password)).lock('job'));
    assert.equal(error.code, 'ERR_INVALID_ARG_VALUE');
    assert.match(error.message, new RegExp(`^${field} `));
    assertHidden(error, acl.password, secret, 'another-secret');
  }
});
