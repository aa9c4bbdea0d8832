// A blocked event loop: leases are kept, a loss shows at once, and what piles up is delivered in order and in bounded memory.
// Runs alone, since it fills a core.
'use strict';

const assert = require('node:assert/strict');
const { test } = require('node:test');
const { commandCalls } = require('../support/commands');
const { patient, runChild, ran, passed } = require('../support/faults');
const memory = require('../support/memory');
const { startServer } = require('../support/server');
const { until, watchWhile } = require('../support/wait');

const key = 'reservation-job';
const calls = 100000;

/** In the child: blocks the event loop until the parent writes a byte. */
const block = `const block = () => require('node:fs').readSync(0, Buffer.alloc(1));`;
const unblock = (child) => child.process.stdin.write('x');

test('a loop blocked for three times the ttl: locks are kept, also one that was acquired meanwhile', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  await client.set('reservation-waited', 'other', 'PX', 700);
  const code = `${block}
    const reservation = make(400, 2);
    const late = make(400, 2);
    reservation.on('lost', ({ message }) => process.send({ lost: message }));
    late.on('lost', ({ message }) => process.send({ lost: message }));
    reservation.lock('job', () => {
      const answers = [];
      const answered = (name) => (error, value) => {
        answers.push([name, error, value, late.held, late.is_held(name)]);
        if (answers.length === 2) process.send({ answers, held: reservation.held });
      };
      late.lock('locked', answered('locked'));
      late.wait_until_lock('waited', answered('waited'));
      process.send({ blocked: true }, () => {
        block();
        const { held } = reservation;
        process.send({ held, answers: answers.length });
      });
    });`;
  const child = runChild(t, server, code);
  await child.message({ blocked: true });
  const names = [key, 'reservation-locked', 'reservation-waited'];
  await until(async () => (await client.get('reservation-waited'))?.startsWith('me-'), {
    ...patient,
    what: 'the wait',
  });
  const start = performance.now();
  const { seen } = await watchWhile(
    () => passed(start, 6000),
    () => client.exists(...names),
    25,
  );
  assert.ok(seen.length > 60 && seen.every((count) => count === 3), `all the time: ${seen}`);
  unblock(child);
  assert.deepEqual(await child.message(), { held: true, answers: 0 });
  assert.deepEqual(await child.message(), {
    answers: [
      ['locked', null, true, true, true],
      ['waited', null, 'reservation-waited', true, true],
    ],
    held: true,
  });
  assert.equal(child.messages.all.length, 3, 'no loss');
});

test('a loss while the loop is blocked: held is false on the first line afterwards, and the loss is reported once', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  const code = `${block}
    const lost = make(100, 30);
    const kept = make(100, 30);
    let losses = 0;
    for (const one of [lost, kept]) one.on('lost', ({ key }) => { losses += 1; process.send({ lost: key }); });
    process.on('message', () => process.send({ losses }));
    Promise.all([lost.lock('job'), kept.lock('kept')]).then(() => {
      const { signal } = lost;
      process.send({ blocked: lost.held && kept.held }, () => {
        block();
        const first = [lost.held, lost.is_held('job'), kept.held, signal.aborted, losses];
        process.send({ first });
      });
    });`;
  const child = runChild(t, server, code);
  await child.message({ blocked: true });
  await client.set(key, 'thief-1');
  // The heartbeat of the lost lock stops. That of the other goes on.
  await ran(client, 'pexpire', 5);
  unblock(child);
  assert.deepEqual(await child.message(), { first: [false, false, true, false, 0] });
  assert.deepEqual(await child.message(), { lost: key });
  await ran(client, 'pexpire', 5);
  child.send('count');
  assert.deepEqual(await child.message(), { losses: 1 });
  assert.equal(await client.get(key), 'thief-1');
});

test('a loss queued behind the answer to a renewal is reported, and is not taken for the loss of another lock', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  const code = `${block}
    const lost = make(100, 30);
    const other = make(100, 30);
    lost.on('lost', ({ key }) => process.send({ lost: key }));
    process.on('message', async () => {
      await other.lock('other');
      process.send({ held: lost.held, is_held: lost.is_held('job'), released: await lost.release() });
    });
    lost.lock('job').then(() => {
      lost.ensure_reservation((error) => process.send({ renewed: error }));
      process.send({ blocked: true }, block);
    });`;
  const child = runChild(t, server, code);
  await child.message({ blocked: true });
  // The answer to its renewal is in the mailbox. Then the key is deleted, which the heartbeat finds.
  await ran(client, 'pexpire', 2);
  await client.del(key);
  await ran(client, 'evalsha', 1);
  unblock(child);
  assert.deepEqual(await child.message(), { renewed: null });
  assert.deepEqual(await child.message(), { lost: key });
  child.send('go on');
  assert.deepEqual(await child.message(), { held: false, is_held: false, released: 0 });
  assert.match(await client.get('reservation-other'), /^me-/);
});

test('after a release, _reserve_val is that of the lock that is left, also when its loss is in the same delivery', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  const code = `${block}
    const reservation = make(100, 30);
    const names = () => [reservation._reserve_key, reservation._reserve_val];
    reservation.on('lost', ({ val }) => process.send({ lost: val, names: names() }));
    reservation.lock('job').then(() => reservation.lock('other')).then(() => {
      reservation.release('other', () => process.send({ names: names() }));
      process.send({ blocked: true }, block);
    });`;
  const child = runChild(t, server, code);
  await child.message({ blocked: true });
  await until(async () => !(await client.exists('reservation-other')), { ...patient, what: 'the release' });
  const val = await client.get(key);
  await client.set(key, 'a thief');
  const { evalsha } = await commandCalls(client);
  await until(async () => (await commandCalls(client)).evalsha > evalsha, { ...patient, what: 'a renewal' });
  unblock(child);
  assert.deepEqual(await child.message(), { names: [key, val] });
  assert.deepEqual(await child.message(), { lost: val, names: [null, null] });
});

/** How many rounds show what memory stays. */
const turns = 4;

test(
  '100,000 locks, then a busy loop: answered in order, once each, and the memory is freed',
  { skip: memory.skip },
  async (t) => {
    const server = await startServer(t);
    const client = server.client();
    const code = `${block}${memory.source}
    const count = ${calls};
    const reservation = make(60000, 600);
    let base = Infinity;
    async function round() {
      // Only after the memory of the previous round was measured.
      await new Promise((resolve) => process.once('message', resolve));
      let answered = 0;
      let wrong = 0;
      let last = -1;
      let late = 0;
      const start = alive();
      const all = new Promise((resolve) => {
        for (let index = 0; index < count; index += 1) {
          reservation.lock('job ' + index, (error, got) => {
            if (error || !got) wrong += 1;
            if (index < last) late += 1;
            last = index;
            answered += 1;
            if (answered === count) resolve();
          });
        }
      });
      process.send({ blocked: true });
      block();
      const before = answered;
      const peak = alive() - start;
      await all;
      // A second answer would come within a turn or two.
      await new Promise(setImmediate);
      const { held } = reservation;
      const released = await reservation.release();
      const after = await settled(base + MB / 2);
      // Memory that grows with the peak and stays has grown in the first round.
      if (base === Infinity) base = after;
      process.send({ before, answered, wrong, late, held, released, peak: peak / MB, stays: (after - base) / MB });
    }
    reservation.lock('warm-up', () => reservation.release(async () => {
      process.send({ ready: true });
      for (let each = 0; each < ${turns}; each += 1) await round();
    }));`;
    const child = runChild(t, server, code, { execArgv: memory.execArgv });
    await child.message({ ready: true });
    const rounds = [];
    for (let round = 0; round < turns; round += 1) {
      child.send('go');
      await child.message({ blocked: true }, { timeout: 30000 });
      await until(async () => (await client.dbsize()) === calls, {
        timeout: 60000,
        interval: 100,
        what: 'all keys',
      });
      unblock(child);
      const { peak, stays, ...facts } = await child.message(() => true, { timeout: 60000 });
      assert.deepEqual(facts, { before: 0, answered: calls, wrong: 0, late: 0, held: true, released: calls });
      assert.equal(await client.dbsize(), 0);
      rounds.push({ peak, stays });
    }
    const numbers = JSON.stringify(rounds);
    t.diagnostic(`MB at the most, and in the end: ${numbers}`);
    // At most 1.5 kB for a call that waits for its delivery, and less than ten bytes a call that stay.
    for (const { peak, stays } of rounds) assert.ok(peak < 150 && stays < 1, numbers);
  },
);

test('of log lines that pile up, 1,000 are kept and one line counts the rest', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  const code = `${block}
    const lines = [];
    const reservation = make(10, 600, undefined, (line) => lines.push(JSON.parse(line)));
    const names = Array.from({ length: 200 }, (_, index) => 'job ' + index);
    Promise.all(names.map((name) => reservation.lock(name))).then(() => {
      const of = (title) => lines.filter((line) => line.title === title);
      process.send({ blocked: true }, () => {
        const before = of('reservation-extended').length;
        block();
        setImmediate(function look() {
          const dropped = of('log-lines-dropped');
          if (dropped.length === 0) return setImmediate(look);
          const last = lines.findIndex(({ title }) => title === 'log-lines-dropped');
          const kept = lines.slice(0, last).filter(({ title }) => title === 'reservation-extended').length - before;
          setTimeout(() => process.send({ before, kept, dropped: of('log-lines-dropped') }), 100);
        });
      });
    });`;
  const child = runChild(t, server, code);
  await child.message({ blocked: true });
  await ran(client, 'pexpire', 5000);
  const { pexpire } = await commandCalls(client);
  server.pause(); // so that no further lines come meanwhile
  unblock(child);
  const { before, kept, dropped } = await child.message(() => true, patient);
  server.resume();
  assert.equal(dropped.length, 1, JSON.stringify(dropped));
  assert.equal(dropped[0].level, 'warning');
  assert.ok(kept >= 900 && kept <= 1000, `${kept} kept`);
  const told = before + kept + dropped[0].count;
  assert.ok(Math.abs(told - pexpire) <= 600, `${told} told of ${pexpire}`);
});
