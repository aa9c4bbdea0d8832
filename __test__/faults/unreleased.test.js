// Releases that fail. From the call on, nothing renews the lock, nothing of it stays scheduled, and it counts as released only
// when its key is gone, whatever commands are still unanswered.
'use strict';

const assert = require('node:assert/strict');
const { test } = require('node:test');
const { commandCalls } = require('../support/commands');
const { patient, wait, passed, ran } = require('../support/faults');
const { startProxy } = require('../support/proxy');
const {
  ReserveResource,
  makeReservation,
  connect,
  ask,
  askError,
  keepLosses,
} = require('../support/reservation');
const { startServer } = require('../support/server');
const { until, within } = require('../support/wait');

const names = ['a', 'b', 'c'];
const keys = names.map((name) => `reservation-${name}`);

async function setUp(t, settings = {}) {
  const server = await startServer(t);
  const proxy = await startProxy(t, server);
  await connect(t, proxy);
  const holder = makeReservation(t, proxy, settings);
  return { server, client: server.client(), proxy, holder, losses: keepLosses(holder) };
}

/**
 * From now on releases are refused at once, and a renewal takes two commands: redis has forgotten the script of renewals, but
 * not that of releases.
 */
async function refuseReleases(t, server, client) {
  const other = makeReservation(t, server);
  // A new connection loads all scripts.
  await other.lock('other');
  await other.release();
  await client.script('FLUSH');
  await other.lock('other');
  await other.release();
  await client.acl('SETUSER', 'default', '-del');
}

/** A subclass whose method the JavaScript timer calls at each interval. */
class Renewing extends ReserveResource {
  ensure_reservation(callback) {
    return super.ensure_reservation(callback);
  }
}

/** The renewals that may be under way at the release. Their second command runs after the release has failed. */
const renewals = {
  'an ensure_reservation of the same tick': {
    start: ({ holder }) => {
      const renewing = ask((done) => holder.ensure_reservation(done));
      return { renewing, releasing: askError((done) => holder.release(done)) };
    },
  },
  'a heartbeat': {
    interval: 700,
    async start({ client, proxy, holder }) {
      // Its answer comes during the release.
      const { evalsha } = await commandCalls(client);
      const hasRun = (times) =>
        until(async () => (await commandCalls(client)).evalsha >= evalsha + times, {
          ...patient,
          what: 'it',
        });
      proxy.stall('down');
      await hasRun(names.length);
      const releasing = askError((done) => holder.release(done));
      await hasRun(2 * names.length);
      proxy.heal();
      return { releasing };
    },
  },
};

for (const [who, { interval = Infinity, start }] of Object.entries(renewals)) {
  for (const Class of [ReserveResource, Renewing]) {
    const own = Class === Renewing ? ', of a subclass with its own ensure_reservation' : '';
    if (own && interval === Infinity) continue;
    test(`${who} succeeds after the failed release${own}: nothing renews the keys again`, async (t) => {
      const all = await setUp(t, { interval, ttl: 2, Class, options: { command_timeout: 1900 } });
      const { server, client, proxy, holder, losses } = all;
      await Promise.all(names.map((name) => holder.lock(name)));
      await refuseReleases(t, server, client);
      const before = (await commandCalls(client)).eval || 0;
      const { renewing, releasing } = await start(all);
      const error = await within(10000, releasing);
      assert.deepEqual([error.code, [...error.failed].sort()], ['ERR_REDIS_AUTH', keys]);
      const renewed = async () => ((await commandCalls(client)).eval || 0) >= before + names.length;
      // ensure_reservation may find the release before its renewal is sent.
      if (renewing) await within(10000, renewing);
      else await until(renewed, { ...patient, what: 'the renewals' });
      await until(async () => (await client.exists(...keys)) === 0, {
        timeout: 2000 + 1500,
        what: 'the end of each ttl',
      });
      // Redis has renewed the keys before that, or the renewal was not sent.
      if (renewing) {
        const [failure] = await within(10000, renewing);
        assert.ok(failure === null || failure.code === 'ERR_RESERVATION_NOT_HELD', failure);
      }
      // Nothing is retried. The heartbeats of another lock show that there was time for it.
      const control = makeReservation(t, server, { interval: 200, ttl: 20 });
      await control.lock('control');
      const { accepted } = proxy;
      proxy.cut();
      await ran(client, 'pexpire', 3);
      assert.equal(proxy.accepted, accepted, 'no connection is made again');
      assert.deepEqual([holder.held, losses], [false, []]);
    });
  }
}

/** A lease with little time left whose key has much: the answer to the renewal was lost. */
async function holdWithLostRenewal({ client, proxy, holder }) {
  const start = performance.now();
  await Promise.all(names.map((name) => holder.lock(name)));
  holder.lock_ttl = 60;
  proxy.lose('down');
  await assert.rejects(holder.ensure_reservation());
  for (const one of keys) assert.ok((await client.pttl(one)) > 30000, 'it was renewed all the same');
  proxy.lose('both');
  return start;
}

const isGone = async (client) => (await client.exists(...keys)) === 0;

for (const pause of [0, 300]) {
  test(`the lease ends after a failed release, and release is called again ${pause} ms after the outage`, async (t) => {
    const options = { command_timeout: 300, connect_timeout: 300 };
    const all = await setUp(t, { interval: Infinity, ttl: 2, options });
    const { client, proxy, holder, losses } = all;
    const start = await holdWithLostRenewal(all);
    const error = await askError((done) => holder.release(done));
    assert.deepEqual([...error.failed].sort(), keys);
    await passed(start, 2100);
    proxy.heal();
    proxy.cut();
    await passed(performance.now(), pause);
    const [again, released] = await within(
      10000,
      ask((done) => holder.release(done)),
    );
    if (!again) assert.ok(released === 0 || released === names.length, `${released}`);
    else assert.ok(again.code === 'ERR_RESERVATION_LOST' || again.failed.length > 0, again.message);
    const left = await Promise.all(keys.map((one) => client.pttl(one)));
    if (!again || !again.failed || again.failed.length === 0) {
      assert.deepEqual(left, [-2, -2, -2], 'it says so when the keys are gone');
    }
    assert.deepEqual(losses, []);
  });
}

/** How a lease can end whose key was extended by a renewal without an answer. */
const ends = {
  'no release was called': () => {},
  'its release has failed': async ({ holder }) => {
    await assert.rejects(holder.release());
  },
  'its release is under way': ({ holder }) => {
    holder.release().catch(() => {});
  },
};

for (const [how, prepare] of Object.entries(ends)) {
  test(`a lease ends in an outage, ${how}: its key is deleted`, async (t) => {
    const isUnderWay = how.endsWith('under way');
    const options = isUnderWay
      ? { command_timeout: 1000, connect_timeout: 10000 }
      : { command_timeout: 300, connect_timeout: 300 };
    const all = await setUp(t, { interval: Infinity, ttl: 2, options });
    const { client, proxy, holder, losses } = all;
    const start = await holdWithLostRenewal(all);
    if (isUnderWay) await passed(start, 1700);
    await prepare(all);
    await passed(start, 3200);
    assert.equal(holder.held, false);
    proxy.heal();
    proxy.cut();
    await until(() => isGone(client), { timeout: 20000, what: 'the end of keys that have 60 s' });
    assert.equal(losses.length, how.startsWith('no release') ? names.length : 0);
    // Another instance can acquire the lock now.
    const next = makeReservation(t, proxy);
    for (const name of names) assert.equal(await next.lock(name), true);
    await within(
      10000,
      ask((done) => holder.release(done)),
    );
    assert.deepEqual(
      names.map((name) => next.is_held(name)),
      [true, true, true],
    );
    assert.equal(await next.release(), names.length);
  });
}

test('a failed hand-over: the waiter acquires the lock at the end of its ttl, or at the next release', async (t) => {
  const options = { command_timeout: 400, connect_timeout: 400 };
  const { client, proxy, holder, losses } = await setUp(t, { interval: 300, ttl: 2, options });
  const waiter = makeReservation(t, proxy, { by: 'waiter', options });
  for (const again of [false, true]) {
    await holder.lock('a');
    const { set } = await commandCalls(client);
    const waiting = wait(t, waiter, 'a');
    await until(async () => (await commandCalls(client)).set > set, { ...patient, what: 'its try' });
    proxy.lose();
    const error = await askError((done) => holder.release(done));
    assert.deepEqual(error.failed, [keys[0]]);
    const { pexpire } = await commandCalls(client);
    proxy.heal();
    proxy.cut();
    if (again)
      await within(
        10000,
        ask((done) => holder.release(done)),
      );
    assert.equal(await within(10000, waiting), keys[0]);
    assert.equal(await client.get(keys[0]), waiter._reserve_val);
    assert.equal((await commandCalls(client)).pexpire, pexpire, 'it was not renewed meanwhile');
    const [late] = await ask((done) => holder.release(done));
    assert.ok(!late || late.code === 'ERR_RESERVATION_LOST');
    assert.equal(await client.get(keys[0]), waiter._reserve_val, 'it is none of the first one');
    assert.equal(await waiter.release(), 1);
  }
  assert.deepEqual(losses, []);
});
