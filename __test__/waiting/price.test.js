// The cost of waiting for redis, by its own counters: one poll a second for a key, however many wait for it.
'use strict';

const assert = require('node:assert/strict');
const { suite, test } = require('node:test');
const { commandCalls, countCommands } = require('../support/commands');
const { runChild } = require('../support/faults');
const { startServer } = require('../support/server');
const { until } = require('../support/wait');
const { startPeer, tries, tried, now } = require('./kit');

/** A process with so many waiters, each a separate instance, for one key or for one each. */
function startCrowd(t, server, waiters, keys) {
  const code = `
    make(300000, 600).lock('connected', () => {
      for (let number = 0; number < ${waiters}; number += 1) {
        make(300000, 600).wait_until_lock('job ' + (number % ${keys}), () => process.send('served'));
      }
      process.send('waiting');
    });`;
  return runChild(t, server, code);
}

/** The commands that redis runs in so many ms: how many a second, and which. */
async function rateOver(client, ms) {
  const start = now();
  const { calls } = await countCommands(client, () =>
    until(() => now() - start >= ms, { timeout: 2 * ms + 5000, what: `${ms} ms` }),
  );
  const seconds = (now() - start) / 1000;
  const total = Object.values(calls).reduce((sum, count) => sum + count, 0);
  return { total, seconds, calls };
}

async function hold(client, keys) {
  const pipeline = client.pipeline();
  for (let number = 0; number < keys; number += 1) pipeline.set(`reservation-job ${number}`, 'x', 'EX', 600);
  await pipeline.exec();
}

suite('the price', { concurrency: true }, () => {
  test('1,000 waiters for one key, whose holder renews it in ten minutes: one poll a second', async (t) => {
    const server = await startServer(t);
    const client = server.client();
    const holder = await startPeer(t, server, { ttl: 1800, interval: 600000 });
    await holder.call('lock', 'job 0');
    // From then on the holder's key is watched, which costs nothing.
    await until(async () => (await commandCalls(client))['client|caching'] > 0, { what: 'the watch' });
    const earlier = await tries(client);
    const crowd = startCrowd(t, server, 1000, 1);
    await crowd.message((message) => message === 'waiting');
    await tried(client, earlier, 2); // "connected", and the first look
    const { total, seconds, calls } = await rateOver(client, 10000);
    t.diagnostic(`${(total / seconds).toFixed(2)} commands a second: ${JSON.stringify(calls)}`);
    // One more than the rate, since the span is no whole number of polls.
    assert.ok(total <= 1.2 * seconds + 1, `${total} commands in ${seconds} s: ${JSON.stringify(calls)}`);
    assert.ok(total >= 0.7 * seconds, `the poll is there: ${total} commands in ${seconds} s`);
  });

  test('each renewal of the holder costs one look, however many wait', async (t) => {
    const server = await startServer(t);
    const client = server.client();
    const holder = await startPeer(t, server, { ttl: 30, interval: 150 });
    await holder.call('lock', 'job 0');
    const earlier = await tries(client);
    const crowd = startCrowd(t, server, 500, 1);
    await crowd.message((message) => message === 'waiting');
    await tried(client, earlier, 2);
    const { total, seconds, calls } = await rateOver(client, 4000);
    const renewals = calls.pexpire;
    assert.ok(renewals >= 10, JSON.stringify(calls));
    t.diagnostic(`${renewals} renewals: ${JSON.stringify(calls)}`);
    // The holder's EVALSHA, GET, PTTL, PEXPIRE, CLIENT CACHING, GET; then CLIENT CACHING, GET, PTTL, SET. And the polls.
    assert.ok(total <= 10 * (renewals + 1) + 1.2 * seconds + 1, JSON.stringify(calls));
  });

  test('5,000 keys, and a waiter for each: a thousand polls a second', async (t) => {
    const server = await startServer(t);
    const client = server.client();
    await hold(client, 5000);
    const earlier = await tries(client);
    const crowd = startCrowd(t, server, 5000, 5000);
    await crowd.message((message) => message === 'waiting');
    await tried(client, earlier, 5001);
    const { total, seconds, calls } = await rateOver(client, 6000);
    t.diagnostic(`${Math.round(total / seconds)} commands a second: ${JSON.stringify(calls)}`);
    // Polls of the first second are no denser than later ones. In 6 s each waiter has 1.2 turns.
    assert.ok(total <= 1200 * seconds, `${total} commands in ${seconds} s: ${JSON.stringify(calls)}`);
  });
});

for (const [title, processes] of [
  ['one process', 1],
  ['4 processes', 4],
]) {
  test(`200 waiters for one key in ${title}, each holding it for 1 ms: few commands a hand-off`, async (t) => {
    const server = await startServer(t);
    const client = server.client();
    await hold(client, 1);
    const code = `
      const { setTimeout: sleep } = require('node:timers/promises');
      async function main() {
        await make(300000, 600).lock('connected ' + process.pid);
        const all = Array.from({ length: ${200 / processes} }, async () => {
          const reservation = make(300000, 600);
          await reservation.wait_until_lock('job 0');
          await sleep(1);
          await reservation.release();
        });
        process.send('waiting');
        await Promise.all(all);
        process.send('through', () => process.disconnect());
      }
      main();`;
    const earlier = await tries(client);
    const crowds = Array.from({ length: processes }, () => runChild(t, server, code));
    for (const crowd of crowds) await crowd.message((message) => message === 'waiting');
    await tried(client, earlier, 2 * processes);
    const { calls } = await countCommands(client, async () => {
      await client.del('reservation-job 0');
      for (const crowd of crowds) await crowd.message((message) => message === 'through', { timeout: 20000 });
    });
    // Redis also counts the commands of each script: a GET, and a SET or a DEL.
    const sent = Object.values(calls).reduce((sum, count) => sum + count, 0) - 2 * calls.evalsha;
    t.diagnostic(`${(sent / 200).toFixed(2)} commands a hand-off: ${JSON.stringify(calls)}`);
    assert.ok(sent / 200 < 8, `${sent / 200} commands a hand-off: ${JSON.stringify(calls)}`);
  });
}
