// A server whose tracking table is too small cancels watches by a push: waiters look again, and miss nothing.
'use strict';

const assert = require('node:assert/strict');
const { test } = require('node:test');
const { commandCalls } = require('../support/commands');
const { startServer } = require('../support/server');
const { until } = require('../support/wait');
const { startPeer, tries, tried, startWaiting, WOKEN, median, show, now } = require('./kit');

const names = Array.from({ length: 8 }, (_, index) => `job ${index}`);

test('a tracking table of one key, and waiters for eight: each wakes at once', async (t) => {
  const server = await startServer(t, { args: ['--tracking-table-max-keys', '1'] });
  const client = server.client();
  const peer = await startPeer(t, server);
  for (const name of names) await client.set(`reservation-${name}`, 'somebody', 'EX', 600);
  const earlier = await tries(client);
  const waits = names.map((name) => peer.callOf(name, 'wait_until_lock', name));
  await tried(client, earlier, names.length);

  const [before, start] = [await commandCalls(client), now()];
  await until(() => now() - start > 1000, { what: 'a second of it' });
  const after = await commandCalls(client);
  const rate = ((after.get - before.get) * 1000) / (now() - start);
  t.diagnostic(`${Math.round(rate)} looks a second`);
  // After each look for nothing comes a longer pause, up to 64 ms and more.
  assert.ok(rate < 40 * names.length, `${rate} looks a second`);

  const times = [];
  for (const [index, name] of names.entries()) {
    const freed = now();
    await client.del(`reservation-${name}`);
    const { at, error } = await waits[index];
    assert.equal(error, null);
    times.push(at - freed);
  }
  t.diagnostic(show(times));
  assert.ok(median(times) < WOKEN, show(times));
});

test('another client fills the tracking table: a cancelled watch is set again', async (t) => {
  const server = await startServer(t, { args: ['--tracking-table-max-keys', '2'] });
  const client = server.client();
  const peer = await startPeer(t, server);
  const reader = server.client();
  await reader.client('TRACKING', 'ON', 'REDIRECT', await client.client('ID'));
  const times = [];
  for (let round = 0; round < 5; round += 1) {
    await client.set('reservation-job', 'somebody', 'EX', 600);
    const { answer } = await startWaiting(peer, client);
    const earlier = await tries(client);
    for (let index = 0; (await tries(client)) < earlier + 3; index += 1) await reader.get(`read ${index}`);
    const freed = now();
    await client.del('reservation-job');
    times.push((await answer).at - freed);
    await peer.callOf('waiter', 'release');
  }
  t.diagnostic(show(times));
  assert.ok(median(times) < WOKEN, show(times));
});
