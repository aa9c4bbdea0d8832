// A key is handed over within a process at most ten times in a row. Then it is free for all processes.
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
 * Records who holds `job`. `holders()` gives the holders since then in order: `{ who, end }`. Call this before others try to
 * acquire it: until the monitor has read the holder, a failing SET counts as a success.
 */
async function observe(t, server) {
  const events = [];
  const record = (event, fields, at) => events.push({ e: event, t: at, w: 'redis', ...fields });
  const monitor = new Monitor(server, ['job'], record, () => {});
  await monitor.attach();
  t.after(() => monitor.end());
  return async () => {
    // MONITOR has shown everything before this.
    await server.command('SET', 'reservation-last', 'x');
    while (!events.some(({ key }) => key === 'last')) await new Promise(setImmediate);
    const { tenures } = tenuresOf(events, []).get('job');
    return tenures.map(({ val, end }) => ({ who: val.split('-')[0], end }));
  };
}

/**
 * A process with so many waiters for `job`, each of which holds it for a moment. Reports when all wait, and when all were
 * served.
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

/** The lengths of the series of hand-overs without a free key in between. */
function rows(holders) {
  const found = [0];
  for (const { end } of holders) {
    if (end === 'handed over') found[found.length - 1] += 1;
    else found.push(0);
  }
  return found.filter((length) => length > 0);
}

test('two processes with 200 waiters each: at most ten hand-overs in a row, and both processes get turns', async (t) => {
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
  // Most of the ten are used, which makes hand-overs cheap.
  assert.ok(Math.max(...handed) === MOST, `in a row: ${handed}`);
  const switches = all.filter(({ who }, index) => index > 0 && all[index - 1].who !== who).length;
  t.diagnostic(`${switches} times from one process to the other, ${handed.length} rows`);
  // The key is free for both 36 times. The chance that one is served completely before the other's first turn is 2 ^ -18.
  assert.ok(switches >= 2, `${switches} times from one process to the other`);
  for (const crowd of crowds) assert.deepEqual(await crowd.exit(), { code: 0, signal: null });
});

test('two waiters that alternate in one process do not lock out another process', async (t) => {
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
    // The key is free for all about every 60 ms.
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

test('a waiter that wakes too late, because another process was faster, wakes again', async (t) => {
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
  // Polls of two waiters would find it after 430 ms, in the median.
  assert.ok(median(times) < 250, show(times));
});
