// A lock that is acquired at the moment when its wait ends is either delivered or given back: never both, never neither, and
// no key stays that nobody holds.
'use strict';

const assert = require('node:assert/strict');
const { suite, test } = require('node:test');
const { setTimeout: sleep } = require('node:timers/promises');
const { makeReservation } = require('../support/reservation');
const { startServer } = require('../support/server');
const { until } = require('../support/wait');
const { makeRandom } = require('../torture/random');
const { startPeer } = require('./kit');

const seed = 5005;
const lanes = 25;
const rounds = 40;

/** Who holds and frees the key: a function that makes `{ hold, free }` for a key. */
const holders = {
  'a release in this process, which hands it on': ({ t, server }) => {
    const holder = makeReservation(t, server, { ttl: 600, interval: 300000 });
    return { hold: (name) => holder.lock(name), free: () => holder.release() };
  },
  'a release in another process': ({ peer }, name) => ({
    hold: () => peer.callOf(name, 'lock', name),
    free: () => peer.callOf(name, 'release'),
  }),
  'a deletion by another client': ({ client }, name) => ({
    hold: () => client.set(`reservation-${name}`, 'somebody', 'EX', 600),
    free: () => client.del(`reservation-${name}`),
  }),
};

/** How a wait ends without a lock: its options, made when it begins, and the code of its error. */
const ends = {
  'its timeout': { error: { code: 'ERR_RESERVATION_TIMEOUT' }, options: (ms) => ({ timeout: ms }) },
  'its abort': {
    error: { name: 'AbortError' },
    options(ms) {
      const controller = new AbortController();
      setTimeout(() => controller.abort(), ms);
      return { signal: controller.signal };
    },
  },
};

/** One key, round after round. It is freed earlier if the last round was too late, and later if it was too early. */
async function race(stage, name, { make, end, random, counts }) {
  const { t, server, client } = stage;
  const { hold, free } = make(stage, name);
  const waiter = makeReservation(t, server, { ttl: 600, interval: 300000 });
  let bias = 0;
  for (let round = 0; round < rounds; round += 1) {
    await hold(name);
    const ms = random.between(2, 9);
    const waiting = waiter.wait_until_lock(name, end.options(ms)).catch((error) => error);
    await sleep(Math.max(0, ms + bias + random.next() - 0.5));
    const [got] = await Promise.all([waiting, free()]);
    if (got instanceof Error) {
      for (const [field, value] of Object.entries(end.error)) assert.equal(got[field], value, got.stack);
      assert.deepEqual([waiter.held, waiter.is_held(name), waiter._reserve_key], [false, false, undefined]);
      counts.ended += 1;
      bias -= 0.5;
      // A lock that came too late is given back, not kept for ten minutes.
      await until(async () => !(await client.exists(`reservation-${name}`)), {
        interval: 2,
        what: 'a free key',
      });
    } else {
      assert.deepEqual([got, waiter.held], [`reservation-${name}`, true]);
      assert.equal(await client.get(got), waiter._reserve_val);
      assert.equal(await waiter.release(), 1);
      counts.had += 1;
      bias += 0.5;
    }
  }
}

suite('1,000 times', () => {
  for (const [how, end] of Object.entries(ends)) {
    for (const [what, make] of Object.entries(holders)) {
      test(`${how} against ${what}`, async (t) => {
        t.diagnostic(`seed ${seed}`);
        const server = await startServer(t);
        const stage = { t, server, client: server.client(), peer: await startPeer(t, server) };
        const counts = { had: 0, ended: 0 };
        const random = makeRandom(seed);
        const names = Array.from({ length: lanes }, (_, lane) => `job ${lane}`);
        await Promise.all(
          names.map((name) => race(stage, name, { make, end, random: random.fork(name), counts })),
        );
        t.diagnostic(JSON.stringify(counts));
        assert.equal(counts.had + counts.ended, lanes * rounds);
        assert.ok(Math.min(counts.had, counts.ended) > 200, `a close race: ${JSON.stringify(counts)}`);
        assert.equal(await stage.client.dbsize(), 0);
      });
    }
  }
});
