// A key goes from hand to hand inside a process ten times in a row at most; then it is free for everybody.
'use strict';

const assert = require('node:assert/strict');
const { test } = require('node:test');
const { runChild } = require('../support/faults');
const { startServer } = require('../support/server');
const { Monitor } = require('../torture/monitor');
const { tenuresOf } = require('../torture/tenures');
const { startPeer, tries, tried, median, show, now } = require('./kit');

const MOST = 10;

/**
 * Begins to record who has `job`; `holders()` gives those who had it since, one after the other: `{ who, end }`. To be
 * called before others try for it: until the monitor has read who has the key, a SET that fails counts as one that succeeds.
 */
async function observe(t, server) {
  const events = [];
  const record = (event, fields, at) => events.push({ e: event, t: at, w: 'redis', ...fields });
  const monitor = new Monitor(server, ['job'], record, () => {});
  await monitor.attach();
  t.after(() => monitor.end());
  return async () => {
    // Redis has told all that it did before this.
    await server.command('SET', 'reservation-last', 'x');
    while (!events.some(({ key }) => key === 'last')) await new Promise(setImmediate);
    const { tenures } = tenuresOf(events, []).get('job');
    return tenures.map(({ val, end }) => ({ who: val.split('-')[0], end }));
  };
}

/**
 * A process with so many waiters for `job`, each of which holds it for a moment. Says when all wait, and when all are
 * through.
 */
function startCrowd(t, server, by, waiters) {
  const code = `
    const reservations = Array.from({ length: ${waiters} }, () => {
      const reservation = make(300000, 600);
      reservation.by = ${JSON.stringify(by)};
      return reservation;
    });
    async function main() {
      await reservations[0].lock('connected');
      await reservations[0].release();
      const all = reservations.map(async (reservation) => {
        await reservation.wait_until_lock('job');
        await reservation.release();
      });
      process.send('waiting');
      await Promise.all(all);
      process.send('through', () => process.disconnect());
    }
    main();`;
  return runChild(t, server, code);
}

/** How often in a row the key was handed on without being free in between, each time. */
function rows(holders) {
  const found = [0];
  for (const { end } of holders) {
    if (end === 'handed over') found[found.length - 1] += 1;
    else found.push(0);
  }
  return found.filter((length) => length > 0);
}

test('two processes with 200 waiters each: nobody hands the key on more often, and both get turns', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  await client.set('reservation-job', 'somebody', 'EX', 600);
  const holders = await observe(t, server);
  const crowds = ['one', 'other'].map((by) => startCrowd(t, server, by, 200));
  for (const crowd of crowds) await crowd.message((message) => message === 'waiting');
  await client.del('reservation-job');
  for (const crowd of crowds) await crowd.message((message) => message === 'through', { timeout: 20000 });
  const all = (await holders()).filter(({ who }) => who !== 'somebody');
  assert.equal(all.length, 400);
  const handed = rows(all);
  assert.ok(Math.max(...handed) <= MOST, `in a row: ${handed}`);
  // Most turns are used: this is what makes a hand-over cheap.
  assert.ok(Math.max(...handed) === MOST, `in a row: ${handed}`);
  const switches = all.filter(({ who }, index) => index > 0 && all[index - 1].who !== who).length;
  t.diagnostic(`${switches} times from one process to the other, ${handed.length} rows`);
  // 36 times it is free for both. That one is through before the other has had its first turn is a matter of 2 ^ -18.
  assert.ok(switches >= 2, `${switches} times from one process to the other`);
  for (const crowd of crowds) assert.deepEqual(await crowd.exit(), { code: 0, signal: null });
});

test('two who take turns in one process do not keep another process out', async (t) => {
  const server = await startServer(t);
  const code = `
    const { setTimeout: sleep } = require('node:timers/promises');
    let turns = 0;
    async function turn(reservation) {
      for (;;) {
        await reservation.wait_until_lock('job');
        turns += 1;
        if (turns === 50) process.send('busy');
        await sleep(5);
        await reservation.release();
      }
    }
    turn(make(300000, 600));
    turn(make(300000, 600));`;
  const holders = await observe(t, server);
  const busy = runChild(t, server, code);
  await busy.message((message) => message === 'busy');
  const peer = await startPeer(t, server, { by: 'peer' });
  const times = [];
  for (let round = 0; round < 5; round += 1) {
    const start = now();
    // It is free for all each 60 ms or so.
    const { at, error } = await peer.callOf('waiter', 'wait_until_lock', 'job', { timeout: 4000 });
    assert.equal(error, null, `no turn in 4 s; before: ${show(times)}`);
    times.push(at - start);
    await peer.callOf('waiter', 'release');
  }
  await busy.kill();
  const handed = rows(await holders());
  assert.ok(Math.max(...handed) <= MOST, `in a row: ${handed}`);
  t.diagnostic(show(times));
});

test('who is woken in vain, because another process was quicker, is woken again', async (t) => {
  const server = await startServer(t);
  const peers = await Promise.all([1, 2, 3].map(() => startPeer(t, server)));
  const waits = new Map();
  const wait = (peer) => {
    const waiting = peer.call('wait_until_lock', 'job').then((answer) => ({ peer, answer }));
    waiting.catch(() => {}); // two of them still wait at the end
    waits.set(peer, waiting);
  };
  let [holder] = peers;
  await holder.call('lock', 'job');
  const before = await tries(server.client());
  peers.slice(1).forEach(wait);
  await tried(server.client(), before, 2);
  const times = [];
  for (let turn = 0; turn < 30; turn += 1) {
    const freed = now();
    await holder.call('release');
    const { peer, answer } = await Promise.race(waits.values());
    assert.equal(answer.error, null);
    times.push(answer.at - freed);
    waits.delete(peer);
    wait(holder);
    holder = peer;
  }
  t.diagnostic(show(times));
  // The polls of two that wait would find it after 430 ms, in the median.
  assert.ok(median(times) < 250, show(times));
});
