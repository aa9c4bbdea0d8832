// The answer of a wait: the instance holds the lock when the callback runs, however it was acquired; and a call with wrong
// options does not join the queue.
'use strict';

const assert = require('node:assert/strict');
const { test } = require('node:test');
const { runChild } = require('../support/faults');
const { makeReservation, ask } = require('../support/reservation');
const { startServer } = require('../support/server');
const { key, tries, tried } = require('./kit');

const clean = { code: 0, signal: null };

/** Starts to wait. Gives the fields of the instance as they are inside the callback. */
function seenInside(reservation, resource, options) {
  return new Promise((resolve) => {
    const { _reserve_key: early } = reservation;
    reservation.wait_until_lock(resource, options, (...args) => {
      const { _reserve_key, _reserve_val, held, signal } = reservation;
      resolve({
        args,
        early,
        _reserve_key,
        _reserve_val,
        held,
        aborted: signal && signal.aborted,
        is_held: reservation.is_held(resource),
      });
    });
  });
}

/** Title -> how a pending waiter gets the key: `free(client, holder)`. */
const ways = {
  'of a free key': null,
  'by a deletion': (client) => client.del(key),
  'by the end of a ttl': (client) => client.pexpire(key, 50),
  'by a hand-over': (_client, holder) => holder.release(),
};

for (const [title, free] of Object.entries(ways)) {
  test(`inside the callback the instance holds the lock, ${title}`, async (t) => {
    const server = await startServer(t);
    const client = server.client();
    const holder = makeReservation(t, server, { ttl: 600, interval: 200000 });
    const reservation = makeReservation(t, server, { ttl: 300, interval: 100000 });
    if (free) await holder.lock('job');
    const earlier = await tries(client);
    const seeing = seenInside(reservation, 'job', {});
    if (free) {
      await tried(client, earlier);
      // Only the waiter matters here, not the loss of the holder.
      holder.on('lost', () => {});
      await free(client, holder);
    }
    const { _reserve_val: val, ...seen } = await seeing;
    assert.deepEqual(seen, {
      args: [null, key],
      early: undefined,
      _reserve_key: key,
      held: true,
      aborted: false,
      is_held: true,
    });
    assert.equal(await client.get(key), val);
    const left = await client.pttl(key);
    assert.ok(left > 280000 && left <= 300000, `its own ttl, whatever the former holder's was: ${left} ms`);
    assert.equal(await reservation.release(), 1);
    assert.deepEqual([reservation._reserve_key, reservation._reserve_val], [undefined, undefined]);
  });
}

test('inside the callback of a wait that failed, the instance holds nothing', async (t) => {
  const server = await startServer(t);
  await server.client().set(key, 'somebody', 'EX', 600);
  const { args, ...seen } = await seenInside(makeReservation(t, server), 'job', { timeout: 30 });
  assert.equal(args.length, 1);
  assert.equal(args[0].code, 'ERR_RESERVATION_TIMEOUT');
  assert.deepEqual(Object.values(seen).filter(Boolean), []);
});

test('a timeout of 0 acquires a free key, each time', async (t) => {
  const server = await startServer(t);
  const reservation = makeReservation(t, server);
  for (let round = 0; round < 100; round += 1) {
    const got = await ask((done) => reservation.wait_until_lock('job', { timeout: 0 }, done));
    assert.deepEqual(got, [null, key], `round ${round}`);
    await reservation.release();
  }
});

test('wrong options are an error, and nothing joins the queue', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  await client.set(key, 'somebody', 'EX', 600);
  const code = `
    const wrong = [{ timeout: -1 }, { timeout: NaN }, { timeout: 'soon' }, { timeout: {} }, { signal: {} },
      { signal: new AbortController() }, { signal: 'SIGTERM' }, { timeout: 10, signal: 5 }];
    const reservation = make(300000, 600);
    const codes = [];
    async function main() {
      for (const options of wrong) {
        await new Promise((resolve) => {
          const both = [];
          const note = (error) => both.push(error.code) === 2 && resolve(codes.push(both));
          reservation.wait_until_lock('job', options, note);
          reservation.wait_until_lock('job', options).catch(note);
        });
      }
      process.send({ codes }, () => process.disconnect());
    }
    main();`;
  const earlier = await tries(client);
  const child = runChild(t, server, code);
  const { codes } = await child.message();
  assert.equal(codes.length, 8);
  for (const one of codes.flat()) assert.match(one, /^ERR_INVALID_ARG_(TYPE|VALUE)$/);
  // Nothing waits any more, so nothing keeps the process alive.
  assert.deepEqual(await child.exit({ timeout: 5000 }), clean, child.stderr);
  assert.equal(await tries(client), earlier, 'nothing was sent');
});

test('a wait with wrong options does not disturb other waiters', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  await client.set(key, 'somebody', 'EX', 600);
  const [first, wrong, last] = [1, 2, 3].map(() => makeReservation(t, server));
  const earlier = await tries(client);
  const served = [];
  const wait = async (reservation, name) => {
    await reservation.wait_until_lock('job');
    served.push(name);
    await reservation.release();
  };
  const waits = [wait(first, 'first')];
  await assert.rejects(wrong.wait_until_lock('job', { timeout: -5 }), { code: 'ERR_INVALID_ARG_VALUE' });
  waits.push(wait(last, 'last'));
  await tried(client, earlier);
  await client.del(key);
  await Promise.all(waits);
  assert.deepEqual(served, ['first', 'last']);
  assert.equal(wrong.held, false);
  assert.equal(await client.exists(key), 0);
});
