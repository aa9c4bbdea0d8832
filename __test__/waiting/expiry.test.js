// The waiter's own timer wakes it at the end of a ttl, whether or not redis's expiry cycle has found the key.
'use strict';

const assert = require('node:assert/strict');
const { after, before, suite, test } = require('node:test');
const { startChild } = require('../support/child');
const { startServer } = require('../support/server');
const { until } = require('../support/wait');
const { startPeer, startWaiting, median, show, now } = require('./kit');

/** Ttls: some end before the first poll, some after several. */
const short = [300, 420, 540, 660, 780];
/** Polls, 0.9 to 1.1 s after a look, would find the ends of the short ttls 360 ms late, in the median. */
const TIMED = 250;
const long = [1340, 1480, 2150, 2600, 3250];

/** When a key ends, on our clock: up to a millisecond too early, never too late. */
async function endOf(client, key) {
  const asked = now();
  const left = await client.pttl(key);
  assert.ok(left > 0, `${key} has ${left} ms left`);
  return asked + left;
}

/** How long after the end of each key its waiter, all in one process, has acquired it. */
async function lateness(peer, client, names, prepareKeys) {
  const waits = [];
  await prepareKeys();
  for (const name of names) waits.push(peer.callOf(`waiter of ${name}`, 'wait_until_lock', name));
  const ends = await Promise.all(names.map((name) => endOf(client, `reservation-${name}`)));
  const answers = await Promise.all(waits);
  const late = answers.map(({ at }, index) => at - ends[index]);
  assert.deepEqual(new Set(answers.map(({ error }) => error)), new Set([null]));
  // redis counts whole milliseconds.
  assert.ok(Math.min(...late) >= -2, `not before the end: ${show(late)}`);
  return late;
}

suite('the end of a ttl', { concurrency: true }, () => {
  for (const [title, fillers] of [
    ['an otherwise empty database', 0],
    // Redis samples expired keys at random, and does not find these for seconds.
    ['a database of 200,000 other keys that expire', 200000],
  ]) {
    suite(title, { concurrency: true }, () => {
      let server;
      let client;

      before(async () => {
        server = await startServer(null);
        client = server.client();
        const pipeline = client.pipeline();
        const some = fillers / 20;
        const script = `for i = 1, ARGV[1] do redis.call('set', 'filler' .. ARGV[2] .. ':' .. i, '', 'EX', 3600) end`;
        for (let part = 0; part < 20; part += 1) pipeline.eval(script, 0, some, part);
        for (const [error] of await pipeline.exec()) assert.equal(error, null);
        assert.equal(await client.dbsize(), fillers);
      });

      after(() => server.stop());

      for (const [which, ttls] of Object.entries({
        'before the first poll': short,
        'after some polls': long,
      })) {
        test(`a ttl that ends ${which}`, async (t) => {
          const peer = await startPeer(t, server);
          const names = ttls.map((ttl) => `${which} ${ttl}`);
          const late = await lateness(peer, client, names, async () => {
            for (const [index, ttl] of ttls.entries()) {
              await client.set(`reservation-${names[index]}`, 'somebody', 'PX', ttl);
            }
          });
          t.diagnostic(show(late));
          assert.ok(median(late) < TIMED, show(late));
        });
      }

      test('a ttl that ends after some heartbeats, because SIGKILL ended its holder', async (t) => {
        const names = ['k1', 'k2', 'k3', 'k4', 'k5'];
        const code = `
        const ReserveResource = require('./index.js');
        const { REDIS_HOST, REDIS_PORT } = process.env;
        ${JSON.stringify(names)}.forEach((name, index) => {
          const holder = new ReserveResource('holder', REDIS_HOST, REDIS_PORT, 300 + 40 * index, 1.2, false);
          holder.lock(name, (error, got) => process.send({ got }));
        });
        setInterval(() => {}, 1000);`;
        const holder = startChild(t, { code }, { env: server.environment });
        await until(() => holder.messages.all.length === names.length, { what: 'five locks' });
        const peer = await startPeer(t, server);
        const waits = names.map((name) => startWaiting(peer, client, name, name));
        const start = now();
        await until(() => now() - start > 1500, { what: 'more than a ttl, which heartbeats have filled' });
        await holder.kill('SIGKILL');
        const ends = await Promise.all(names.map((name) => endOf(client, `reservation-${name}`)));
        const answers = await Promise.all(waits.map(async (wait) => (await wait).answer));
        const late = answers.map(({ at }, index) => at - ends[index]);
        t.diagnostic(show(late));
        assert.ok(Math.min(...late) >= -2, `not before the end: ${show(late)}`);
        assert.ok(median(late) < TIMED, show(late));
      });

      test('a ttl that is set, and shortened, during the wait', async (t) => {
        const peer = await startPeer(t, server);
        const names = ['eternal 1', 'eternal 2', 'eternal 3', 'shortened 1', 'shortened 2'];
        for (const name of names) {
          await client.set(`reservation-${name}`, 'somebody');
          if (name.startsWith('shortened')) await client.expire(`reservation-${name}`, 600);
        }
        const waits = [];
        for (const name of names) waits.push(await startWaiting(peer, client, name, name));
        for (const [index, name] of names.entries())
          await client.pexpire(`reservation-${name}`, 500 + 60 * index);
        const ends = await Promise.all(names.map((name) => endOf(client, `reservation-${name}`)));
        const answers = await Promise.all(waits.map(({ answer }) => answer));
        const late = answers.map(({ at }, index) => at - ends[index]);
        t.diagnostic(show(late));
        assert.ok(Math.min(...late) >= -2, `not before the end: ${show(late)}`);
        assert.ok(median(late) < TIMED, show(late));
      });
    });
  }
});
