// NOAUTH, WRONGPASS, NOPERM: a call fails at once, with an error that names host and user but no secret; renewals of held
// locks are retried until the deadline.
'use strict';

const assert = require('node:assert/strict');
const { test } = require('node:test');
const { setTimeout: sleep } = require('node:timers/promises');
const { inspect } = require('node:util');
const { patient, wait, ran, passed } = require('../support/faults');
const { startProxy } = require('../support/proxy');
const { makeReservation, ask, askError, keepLog, keepLosses } = require('../support/reservation');
const { startServer } = require('../support/server');
const { until, within } = require('../support/wait');

const key = 'reservation-job';

/** The error names host, user and redis's message, but not the password. */
function assertRefusal(error, server, words, passwords = []) {
  assert.equal(error.code, 'ERR_REDIS_AUTH', error.message);
  assert.match(error.message, words);
  assert.ok(error.message.includes(`${server.host}:${server.port}`), `the host: ${error.message}`);
  assert.match(error.message, /default/, 'the user');
  assert.deepEqual([error.host, error.port], [server.host, server.port]);
  const everything = [
    inspect(error, { depth: 9, showHidden: true }),
    error.stack,
    JSON.stringify(error),
  ].join('\n');
  for (const password of passwords) assert.ok(!everything.includes(password), everything);
}

for (const [title, password, words] of [
  ['NOAUTH', '', /^Auth error: NOAUTH /],
  ['WRONGPASS', 'Wr0ng-h0rse', /^Auth error: WRONGPASS /],
]) {
  test(`${title}: a lock and a wait fail at once`, async (t) => {
    const server = await startServer(t, { password: 'Right-h0rse' });
    const proxy = await startProxy(t, server);
    const log = keepLog();
    const reservation = makeReservation(t, proxy, { password, log });
    for (const call of ['lock', 'wait_until_lock']) {
      const before = proxy.accepted;
      const error = await within(
        10000,
        askError((done) => reservation[call]('job', done)),
      );
      assertRefusal(error, proxy, words, ['Right-h0rse', 'Wr0ng-h0rse']);
      assert.ok(
        proxy.accepted - before <= 2,
        `not tried again and again: ${proxy.accepted - before} connections`,
      );
    }
    assert.ok(log.of('redis-error').length >= 2);
    assert.doesNotMatch(JSON.stringify(log.events), /h0rse/);
    // With the right password, it is another endpoint.
    reservation.password = 'Right-h0rse';
    assert.equal(await within(10000, reservation.lock('job')), true);
  });
}

test('credentials that change during a wait: the wait fails at the next login', async (t) => {
  const server = await startServer(t, { password: 'First-h0rse' });
  const client = server.client();
  await client.set(key, 'other');
  const reservation = makeReservation(t, server);
  const waits = [1, 2].map(() => wait(t, reservation, 'job').catch((error) => error));
  await until(async () => /cmdstat_set:calls=[2-9]/.test(await client.info('commandstats')), {
    ...patient,
    what: 'a try',
  });
  await client.config('SET', 'requirepass', 'Second-h0rse');
  await client.client('KILL', 'TYPE', 'normal');
  for (const error of await within(20000, Promise.all(waits))) {
    assertRefusal(error, server, /WRONGPASS/, ['First-h0rse', 'Second-h0rse']);
  }
});

test('credentials that change while a lock is held: renewal is retried until the deadline, and succeeds if they are restored', async (t) => {
  const server = await startServer(t, { password: 'First-h0rse' });
  const client = server.client();
  const log = keepLog();
  const [kept, lost] = [30, 3].map((ttl) => makeReservation(t, server, { interval: 200, ttl, log }));
  const losses = [kept, lost].map(keepLosses);
  await kept.lock('kept');
  await lost.lock('lost');
  await ran(client, 'pexpire', 2);
  await client.config('SET', 'requirepass', 'Second-h0rse');
  const start = performance.now();
  await client.client('KILL', 'TYPE', 'normal');
  await passed(start, 1500);
  assert.deepEqual([kept.held, lost.held, losses], [true, true, [[], []]]);
  const failed = log.of('expire-set-failed');
  assert.ok(failed.length >= 2 && failed.length <= 4, `said once each: ${failed.length}`);
  assert.match(failed[0].err, /WRONGPASS/);
  const error = await within(
    10000,
    kept.release().catch((caught) => caught),
  );
  assertRefusal(error, server, /WRONGPASS/, ['First-h0rse', 'Second-h0rse']);
  await until(() => losses[1].length > 0, { ...patient, what: 'the loss' });
  const after = performance.now() - start;
  assert.ok(after >= 2500 && after < 5000, `at the deadline: ${after} ms`);
  await client.config('SET', 'requirepass', 'First-h0rse');
  assert.deepEqual(await ask((done) => kept.release(done)), [null, 1], 'it may be called again');
  await until(async () => (await client.dbsize()) === 0, { ...patient, what: 'the end of the lost key' });
  assert.equal(losses[1].length, 1);
  assert.doesNotMatch(JSON.stringify(log.events), /h0rse/);
});

for (const [what, rules, call] of [
  ['the command', ['-set'], (one) => one.lock('job')],
  ['the key', ['resetkeys', '~reservation-mine*'], (one) => one.lock('job')],
  ['the command of a wait', ['-set'], (one) => one.wait_until_lock('job')],
  ['the scripts of a release', ['-evalsha', '-eval'], (one) => one.release()],
  ['a command in the script of a release', ['-del'], (one) => one.release()],
]) {
  test(`NOPERM, ${what}: the call fails at once`, async (t) => {
    const server = await startServer(t);
    const client = server.client();
    // Retries would last five seconds.
    const reservation = makeReservation(t, server, { ttl: 60, interval: 60000 });
    await reservation.lock('mine');
    await client.acl('SETUSER', 'default', ...rules);
    const start = performance.now();
    const error = await within(
      20000,
      call(reservation).then(
        () => assert.fail('not refused'),
        (caught) => caught,
      ),
    );
    assert.ok(performance.now() - start < 2500, `at once: ${performance.now() - start} ms`);
    assertRefusal(error, server, /^Auth error: /);
    await client.acl('SETUSER', 'default', '+@all', '~*');
    assert.equal(await reservation.release(), 1);
    assert.equal(await client.dbsize(), 0);
  });
}

for (const [what, rules] of [
  ['the scripts', ['-evalsha', '-eval']],
  ['a command in the scripts', ['-pexpire']],
]) {
  test(`NOPERM on ${what} of a renewal: retried until the deadline, logged, and the lock is kept if it passes`, async (t) => {
    const server = await startServer(t);
    const client = server.client();
    const log = keepLog();
    const [kept, lost] = [30, 2.5].map((ttl) => makeReservation(t, server, { interval: 200, ttl, log }));
    const losses = [kept, lost].map(keepLosses);
    await kept.lock('kept');
    await lost.lock('lost');
    await ran(client, 'pexpire', 2);
    await client.acl('SETUSER', 'default', ...rules);
    const start = performance.now();
    await until(() => losses[1].length > 0, { ...patient, what: 'the loss' });
    const after = performance.now() - start;
    assert.ok(after >= 2000 && after < 4500, `at the deadline: ${after} ms`);
    assert.deepEqual([kept.held, losses[0]], [true, []]);
    const failed = log.of('expire-set-failed');
    assert.equal(failed.length, 2, 'said once each');
    assert.match(failed[0].err, /^Error: Auth error: /);
    await client.acl('SETUSER', 'default', '+@all');
    await ran(client, 'pexpire', 2);
    assert.deepEqual([kept.held, losses[0], losses[1].length], [true, [], 1]);
  });
}

test('an undo after the password has changed: one refused login, and the key lapses', async (t) => {
  const server = await startServer(t, { password: 'First-h0rse' });
  const client = server.client();
  const proxy = await startProxy(t, server);
  const options = { command_timeout: 300 };
  const reservation = makeReservation(t, proxy, { password: 'First-h0rse', ttl: 600, options });
  await reservation.lock('warm-up');
  await reservation.release();
  proxy.lose();
  const error = await askError((done) => reservation.lock('job', done));
  assert.equal(error.code, 'ERR_REDIS_TIMEOUT');
  await client.config('SET', 'requirepass', 'Second-h0rse');
  const before = proxy.accepted;
  proxy.heal();
  proxy.cut();
  await until(() => proxy.accepted > before, { ...patient, what: 'a login' });
  // Perhaps one of RESP3, and one that was sent before the password changed.
  await sleep(2000);
  assert.ok(proxy.accepted - before <= 2, `${proxy.accepted - before} logins`);
});
