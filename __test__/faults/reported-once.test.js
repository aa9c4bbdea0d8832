// A loss that the event loop has not read yet, and what its owner does first: the loss is reported once, by whatever comes
// first, and nothing is emitted or thrown after a call of release().
'use strict';

const assert = require('node:assert/strict');
const { test } = require('node:test');
const { patient, runChild, ran } = require('../support/faults');
const { startServer } = require('../support/server');
const { until } = require('../support/wait');

const keys = ['reservation-a', 'reservation-b'];

/**
 * The child: `lost` holds a and b, and its loop is blocked until both are lost, or only a. Then `act` runs in the same tick.
 * All reports of a loss are collected, until the renewals of another instance show that there was time for more.
 */
const child = ({ listener, interval, ttl, act }) => `
  const block = () => require('node:fs').readSync(0, Buffer.alloc(1));
  const told = [];
  const tell = (who) => (error) => {
    if (error && error.code === 'ERR_RESERVATION_LOST') told.push(...(error.lost || [error.key]).map((key) => who + ' ' + key));
    else if (error && error.code !== 'ERR_RESERVATION_NOT_HELD') told.push(who + ' ' + error);
  };
  process.on('uncaughtException', tell('thrown'));
  process.on('unhandledRejection', tell('rejected'));
  const control = make(100, 30);
  const lost = make(${interval}, ${ttl});
  ${listener ? "lost.on('lost', tell('event'));" : ''}
  const values = [];
  const release = (who, ...args) => new Promise((resolve) => {
    lost.release(...args, (error, released) => { tell(who)(error); values.push(error ? error.released : released); resolve(); });
  });
  Promise.all([control.lock('control'), lost.lock('a'), lost.lock('b')]).then(() => {
    process.send({ ready: true }, () => {
      block();
      const held = [lost.is_held('a'), lost.is_held('b')];
      Promise.all(((lost, release, tell) => { ${act} })(lost, release, tell))
        .then(() => new Promise((resolve) => setTimeout(resolve, 100)))
        .then(() => control.ensure_reservation())
        .then(() => process.send({ held, told: told.sort(), values, signal: lost.signal && lost.signal.aborted }));
    });
  });`;

/** How both keys are lost while the loop is blocked. */
const ways = {
  taken: {
    interval: 100,
    ttl: 30,
    lose: (client) => client.mset(keys[0], 'thief', keys[1], 'thief'),
  },
  'never renewed': { interval: 'Infinity', ttl: 0.5, lose: () => {} },
};

/** What the owner does in the same tick, and what may then report each of the two losses. */
const acts = {
  'release()': { act: `return [release('release')];`, by: ['release'] },
  'a promise of release()': {
    act: `return [lost.release().catch(tell('release'))];`,
    by: ['release'],
  },
  'release(resource) of each': {
    act: `return [release('release', 'a'), release('release', 'b')];`,
    by: ['release'],
  },
  'release() twice': { act: `return [release('release'), release('release')];`, by: ['release'] },
  'a renewal, then release()': {
    act: `return [new Promise((resolve) => lost.ensure_reservation((error) => { tell('renewal')(error); resolve(); })), release('release')];`,
    by: ['renewal', 'release'],
  },
  'release(), then a renewal': {
    act: `return [release('release'), new Promise((resolve) => lost.ensure_reservation((error) => { tell('renewal')(error); resolve(); }))];`,
    by: ['release'],
  },
  'release() of one of them': {
    act: `return [release('release', 'a')];`,
    by: ['release', 'event', 'thrown'],
  },
};

async function run(t, server, way, settings) {
  const client = server.client();
  const running = runChild(t, server, child({ ...way, ...settings }));
  await running.message({ ready: true });
  await way.lose(client);
  if (way.interval === 'Infinity') {
    await until(async () => (await client.exists(...keys)) === 0, { ...patient, what: 'the end of both' });
  }
  // Everything that is due every 100 ms has run.
  await ran(client, 'pexpire', 4);
  running.process.stdin.write('x');
  return running.message(() => true, { timeout: 20000 });
}

for (const [how, way] of Object.entries(ways)) {
  for (const listener of [true, false]) {
    const title = `${how} while the loop is blocked, ${listener ? 'a listener' : 'no listener'}`;
    test(`${title}: each loss is reported once, whatever is called in the same tick`, async (t) => {
      const checks = Object.entries(acts).map(async ([what, { act, by }]) => {
        const server = await startServer(t);
        const { held, told, values } = await run(t, server, way, { listener, act });
        assert.deepEqual(held, [false, false], what);
        const tellers = told.map((one) => one.split(' ')[0]);
        const of = told.map((one) => one.split(' ')[1]).sort();
        // A lease that is never renewed ends silently without a listener.
        const isQuiet = by.includes('thrown') && !listener && how === 'never renewed';
        assert.deepEqual(of, isQuiet ? keys.slice(0, 1) : keys, `${what}: ${told}`);
        assert.ok(
          tellers.every((one) => by.includes(one)),
          `${what}: ${told}`,
        );
        assert.ok(
          values.every((value) => value === 0),
          `${what}: released ${values}`,
        );
      });
      await Promise.all(checks);
    });
  }
}

test('one of two locks is lost while the loop is blocked: the release reports it, and frees the other', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  for (const listener of [true, false]) {
    const way = { interval: 100, ttl: 30, lose: () => client.set(keys[0], 'thief') };
    const { held, told, values, signal } = await run(t, server, way, {
      listener,
      act: acts['release()'].act,
    });
    assert.deepEqual(
      { held, told, values },
      { held: [false, true], told: [`release ${keys[0]}`], values: [1] },
    );
    assert.equal(signal, true, 'aborted until the next acquisition');
    assert.deepEqual(await client.mget(keys), ['thief', null]);
    await client.flushall();
  }
});

// Where a loss runs code of the caller, and what reports each of two losses if that code calls release().
const places = {
  'the abort of the signal': {
    listen: `lost.signal.addEventListener('abort', () => call());`,
    by: [`release ${keys[0]}`, `release ${keys[1]}`],
  },
  'the line of the first': {
    listen: `lost.metadata = (line) => { if (line.includes('"reservation-lost"')) call(); };`,
    by: [`release ${keys[0]}`, `release ${keys[1]}`],
  },
  'the listener of the first': {
    listen: `lost.once('lost', () => call());`,
    by: [`event ${keys[0]}`, `release ${keys[1]}`],
  },
};

for (const [place, { listen, by }] of Object.entries(places)) {
  test(`release() in ${place} of two losses reports those that were not reported before`, async (t) => {
    const checks = [true, false].map(async (listener) => {
      const server = await startServer(t);
      const act = `
        let call;
        const called = new Promise((resolve) => { call = () => resolve(release('release')); });
        ${listen}
        return [called];`;
      const { told, values } = await run(t, server, ways.taken, { listener, act });
      const expected = listener ? by : by.filter((one) => !one.startsWith('event'));
      assert.deepEqual(
        { told, isFreed: values.some((value) => value !== 0) },
        { told: expected, isFreed: false },
      );
    });
    await Promise.all(checks);
  });
}
