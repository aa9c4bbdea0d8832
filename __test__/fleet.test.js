// A mixed fleet: processes of 0.4.0 and of this package on the same keys. They exclude each other, and each notices when the
// other has taken its key.
'use strict';

const assert = require('node:assert/strict');
const { test } = require('node:test');
const { startChild } = require('./support/child');
const { startServer } = require('./support/server');
const { until } = require('./support/wait');

const key = 'reservation-job';

async function startWorker(t, server, kind, way) {
  const child = startChild(t, '__test__/fleet/worker.js', {
    execArgv: ['--no-deprecation'], // 0.4.0 uses deprecated parts of Node
    env: { ...server.environment, PACKAGE: kind, WAY: way, JOB_ID: '' },
  });
  await child.message((message) => message === 'up');
  return child;
}

test('read, sleep, write: no overlap, no lost update', async (t) => {
  const server = await startServer(t);
  const workers = await Promise.all([
    startWorker(t, server, 'original', 'wait'),
    startWorker(t, server, 'original', 'poll'),
    startWorker(t, server, 'ours', 'wait'),
    startWorker(t, server, 'ours', 'poll'),
  ]);
  const turnsOf = (child) => child.messages.all.filter(({ from }) => from !== undefined);
  for (const child of workers) child.send({ task: 'work' });
  const least = { timeout: 60000, interval: 50, what: 'two turns of each' };
  await until(() => workers.every((child) => turnsOf(child).length >= 2), least).catch((error) => {
    throw workers[0].describe(error);
  });
  for (const child of workers) child.send({ task: 'stop' });
  await Promise.all(
    workers.map((child) => child.message((message) => message === 'done', { timeout: 20000 })),
  );

  const turns = workers.flatMap(turnsOf).sort((one, other) => one.from - other.from);
  for (let index = 1; index < turns.length; index += 1) {
    const [first, second] = [turns[index - 1], turns[index]];
    assert.ok(second.from >= first.to, `${JSON.stringify(first)} overlaps ${JSON.stringify(second)}`);
  }
  assert.equal(Number(await server.client().get('counter')), turns.length, 'a lost update');
  // The lock moved from each package to the other and back.
  const pairs = new Set(turns.slice(1).map((turn, index) => `${turns[index].package} ${turn.package}`));
  assert.ok(pairs.has('original ours') && pairs.has('ours original'), [...pairs].join());
  t.diagnostic(`${turns.length} turns`);
});

for (const [loser, winner] of [
  ['ours', 'original'],
  ['original', 'ours'],
]) {
  test(`${loser} notices that ${winner} has taken its key`, async (t) => {
    const server = await startServer(t);
    const client = server.client();
    const [first, second] = await Promise.all([
      startWorker(t, server, loser, 'wait'),
      startWorker(t, server, winner, 'wait'),
    ]);
    first.send({ task: 'lock', resource: 'job' });
    const { got, val } = await first.message(({ got: answer }) => answer !== undefined);
    assert.equal(got, true);
    second.send({ task: 'lock', resource: 'job' });
    assert.equal((await second.message(({ got: answer }) => answer !== undefined)).got, false);

    // The real value of a key that the other holds.
    second.send({ task: 'lock', resource: 'spare' });
    const { val: thief } = await second.message(({ got: answer }) => answer !== undefined);
    await client.set(key, thief, 'PX', 20000);
    assert.deepEqual(await first.message(({ lost }) => lost !== undefined), {
      lost: `Worker ${val} lost ${key} to ${thief}`,
    });
    assert.equal(await client.get(key), thief, 'the new holder keeps it');
    assert.ok((await client.pttl(key)) > 3000, 'no other client has set its ttl');
  });
}
