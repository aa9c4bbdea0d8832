// Races: locks, renewals each millisecond, releases, ensure_reservation, waits and aborts, all at once over a link with
// jitter. Each call has one answer, each acquisition one DEL, and no key stays.
'use strict';

const assert = require('node:assert/strict');
const { test } = require('node:test');
const { runChild } = require('../support/faults');
const { startProxy } = require('../support/proxy');
const { startServer } = require('../support/server');
const { until } = require('../support/wait');

const seed = 20240917;

/** What the children share: a random number generator, and callbacks that must be called once, and asynchronously. */
const kit = `
  let state = ${seed};
  const random = () => (state = (state * 1103515245 + 12345) % 2147483648) / 2147483648;
  const faults = [];
  let calls = 0;
  let answers = 0;
  const ask = (start) => new Promise((resolve) => {
    calls += 1;
    let returned = false;
    let times = 0;
    start((...args) => {
      answers += 1;
      times += 1;
      if (!returned) faults.push('called back before the call returned');
      if (times > 1) faults.push('called back ' + times + ' times');
      resolve(args);
    });
    returned = true;
  });
  const watched = (interval) => {
    const reservation = make(interval, 60);
    reservation.on('lost', ({ message }) => faults.push(message));
    return reservation;
  };
  const finish = async (counts) => {
    // A second or a late answer would have come by then.
    await new Promise((resolve) => setTimeout(resolve, 300));
    process.send({ counts, calls, answers, faults: faults.slice(0, 10) });
    process.disconnect();
  };
`;

/** A server behind a proxy with jitter, and the events of each key in order: 'set', 'del', 'expired'. */
async function setUp(t) {
  const server = await startServer(t, { args: ['--notify-keyspace-events', 'K$gx'] });
  const proxy = await startProxy(t, server);
  proxy.delay(0, { jitter: 3, seed });
  const rows = new Map();
  const subscriber = server.client();
  await subscriber.psubscribe('__keyspace@0__:*');
  subscriber.on('pmessage', (pattern, channel, event) => {
    if (!['set', 'del', 'expired'].includes(event)) return;
    const name = channel.slice(channel.indexOf(':') + 1);
    if (!rows.has(name)) rows.set(name, []);
    rows.get(name).push(event);
  });
  return { server, proxy, rows, client: server.client() };
}

async function finished(child) {
  const result = await child.message(({ counts }) => counts, { timeout: 120000 });
  assert.deepEqual(await child.exit(), { code: 0, signal: null }, child.stderr);
  assert.equal(child.stderr, '', 'nothing uncaught');
  assert.deepEqual(result.faults, [], `seed ${seed}`);
  assert.equal(result.answers, result.calls, 'one answer each');
  return result.counts;
}

test('10,000 cycles with a heartbeat of 1 ms, two simultaneous releases, and renewals in between', async (t) => {
  const { proxy, rows, client } = await setUp(t);
  const cycles = 10000;
  const code = `${kit}
    const counts = { locked: 0, released: 0, renewed: 0, notHeld: 0 };
    async function work(number) {
      const reservation = watched(1);
      const name = 'job ' + number;
      for (let cycle = 0; cycle < ${cycles / 100}; cycle += 1) {
        const [error, got] = await ask((done) => reservation.lock(name, done));
        if (error || got !== true) faults.push('lock: ' + (error || got));
        else counts.locked += 1;
        const others = [];
        const renew = () => others.push(ask((done) => reservation.ensure_reservation(done)).then(([failure]) => {
          if (!failure) counts.renewed += 1;
          else if (failure.code === 'ERR_RESERVATION_NOT_HELD') counts.notHeld += 1;
          else faults.push('renewal: ' + failure);
        }));
        // One renewal that has some time to run, and one whose lock is released in the same tick.
        if (random() < 0.5) {
          renew();
          await new Promise((resolve) => setTimeout(resolve, random() * 6));
        }
        if (random() < 0.5) renew();
        const releases = [0, 1].map(() => ask((done) =>
          random() < 0.5 ? reservation.release(done) : reservation.release(name, done)));
        if (reservation.held) faults.push('held after the call of release');
        if (random() < 0.5) renew();
        const answers = await Promise.all(releases);
        for (const [failure] of answers) if (failure) faults.push('release: ' + failure);
        const sum = answers.reduce((total, [, count]) => total + count, 0);
        if (sum !== 1) faults.push('released ' + sum + ' times');
        counts.released += sum;
        await Promise.all(others);
      }
    }
    Promise.all(Array.from({ length: 100 }, (_, number) => work(number))).then(() => finish(counts));`;
  const counts = await finished(runChild(t, proxy, code));
  t.diagnostic(`seed ${seed}: ${JSON.stringify(counts)}`);
  assert.deepEqual([counts.locked, counts.released], [cycles, cycles]);
  assert.equal(await client.dbsize(), 0);
  const events = [...rows.values()].flat().length;
  await until(() => [...rows.values()].flat().length >= cycles * 2, {
    timeout: 20000,
    what: `the events (${events})`,
  });
  for (const [name, row] of rows) {
    // One DEL for each SET, and none without a key.
    assert.equal(
      row.join(' '),
      Array(row.length / 2)
        .fill('set del')
        .join(' '),
      name,
    );
  }
  assert.ok(counts.renewed > cycles / 10, 'renewals did run in between');
});

test('waits that are aborted at any moment, hand-overs, releases: at most one holder, and no key stays', async (t) => {
  const { proxy, rows, client } = await setUp(t);
  const cycles = 4000;
  const code = `${kit}
    const counts = { got: 0, aborted: 0, released: 0 };
    const inside = new Map();
    const reason = new Error('no longer wanted');
    async function work(number) {
      const reservation = watched(1);
      for (let cycle = 0; cycle < ${cycles / 40}; cycle += 1) {
        const name = 'job ' + Math.floor(random() * 6);
        const controller = new AbortController();
        const delay = random() * 12;
        const timer = random() < 0.6 ? setTimeout(() => controller.abort(reason), delay) : null;
        const [error, key] = await ask((done) => reservation.wait_until_lock(name, { signal: controller.signal }, done));
        clearTimeout(timer);
        if (error === reason) {
          counts.aborted += 1;
          if (reservation.held) faults.push('held after an abort');
          continue;
        }
        if (error || key !== 'reservation-' + name) {
          faults.push('wait: ' + (error || key));
          continue;
        }
        counts.got += 1;
        if (!reservation.held) faults.push('not held in the callback');
        if (inside.get(name)) faults.push('two hold ' + name);
        inside.set(name, true);
        if (random() < 0.3) await new Promise(setImmediate);
        inside.set(name, false);
        const [failure, released] = await ask((done) => reservation.release(done));
        if (failure || released !== 1) faults.push('release: ' + (failure || released));
        counts.released += 1;
      }
    }
    Promise.all(Array.from({ length: 40 }, (_, number) => work(number))).then(() => finish(counts));`;
  const counts = await finished(runChild(t, proxy, code));
  t.diagnostic(`seed ${seed}: ${JSON.stringify(counts)}`);
  assert.equal(counts.got + counts.aborted, cycles);
  assert.equal(counts.released, counts.got);
  assert.ok(counts.got > cycles / 20 && counts.aborted > cycles / 20, 'some of each');
  await until(async () => (await client.dbsize()) === 0, { timeout: 20000, what: 'no keys' });
  for (const [name, row] of rows) {
    const text = row.join(' ');
    // A hand-over is a SET after a SET. Each DEL follows a SET, and no key lapses.
    assert.match(text, /^(set )+del( (set )+del)*$/, name);
  }
  const sets = [...rows.values()].flat().filter((event) => event === 'set').length;
  assert.ok(sets >= counts.got && sets <= counts.got + counts.aborted, `${sets} SETs`);
});
