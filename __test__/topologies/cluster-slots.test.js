// Slots that move while their locks are held, waited for, renewed and contended: MOVED and ASK are followed, nothing is lost,
// and there is one holder at a time.
'use strict';

const assert = require('node:assert/strict');
const { after, before, suite, test } = require('node:test');
const { keepLosses } = require('../support/reservation');
const { until, within } = require('../support/wait');
const { startCluster } = require('./support/cluster');
const { namesInSlots } = require('./support/slots');
const { countOf, keyOf, onCluster, patient, startWorker, tried, valueOf, wait } = require('./support/shards');
const { contend, hold, watchExclusion } = require('./support/workload');

suite('slots that move', () => {
  let cluster;
  let nextSlot = 100;

  before(async () => {
    cluster = await startCluster(null);
  });
  after(() => cluster.stop());

  /** An unused slot of the first master, names in it, and a node to move it to. */
  async function newSlot(count = 1) {
    const slot = (nextSlot += 1);
    const names = namesInSlots((one) => one === slot, count);
    return { slot, names, to: await cluster.otherMaster(slot) };
  }

  /** How many errors with this code nodes have replied. A redirected batch counts once for each of its commands. */
  async function answered(code) {
    const texts = await Promise.all(
      (await cluster.masters()).map((node) => node.command('INFO', 'errorstats')),
    );
    const counts = texts.map((text) =>
      Number((text.match(new RegExp(`errorstat_${code}:count=(\\d+)`)) || [])[1] || 0),
    );
    return counts.reduce((sum, count) => sum + count, 0);
  }

  test('a slot moves while its lock is held and waited for: the new node gets the renewal, the release and the next lock', async (t) => {
    const { slot, names, to } = await newSlot(3);
    const [name, idle] = names;
    const holder = onCluster(t, cluster, { interval: 100, ttl: 1.5 });
    const losses = keepLosses(holder);
    await holder.lock(name);
    await holder.lock(idle);
    const other = startWorker(t, cluster);
    const soFar = await countOf(cluster, 'set');
    const waiting = other.call('waiter', 'wait_until_lock', name);
    await tried(cluster, soFar);

    const moves = await answered('MOVED');
    await cluster.moveSlot(slot, to);
    const moved = performance.now();
    await to.command('PEXPIRE', keyOf(name), 1000);
    await until(async () => (await to.command('PTTL', keyOf(name))) > 1200, {
      ...patient,
      what: 'a renewal there',
    });
    t.diagnostic(`renewed ${(performance.now() - moved).toFixed(0)} ms after the move`);
    assert.ok((await answered('MOVED')) > moves, 'somebody was sent on');
    // Longer than the ttl: without renewals on the new node the key would lapse.
    await until(() => performance.now() - moved > 1700, { what: 'more than the ttl' });
    assert.deepEqual([holder.held, losses], [true, []]);
    assert.equal(await holder.lock(names[2]), true, 'a new one too');

    const freed = performance.now();
    assert.equal(await holder.release(), 3);
    assert.equal(await within(5000, waiting), keyOf(name));
    t.diagnostic(`the waiter has it ${(performance.now() - freed).toFixed(1)} ms after the release`);
    assert.ok(performance.now() - freed < 700, 'woken, not by its poll');
    assert.equal(await other.call('waiter', 'release'), 1);
    assert.deepEqual(other.losses, []);
    for (const one of names) assert.equal(await valueOf(cluster, one), null);
  });

  test('a slot moves during a wait: a DEL on the new node wakes the waiter', async (t) => {
    const { slot, names, to } = await newSlot();
    const [name] = names;
    await cluster.command(keyOf(name), 'SET', keyOf(name), 'somebody', 'EX', 600);
    const reservation = onCluster(t, cluster);
    const soFar = await countOf(cluster, 'set');
    const waiting = wait(t, reservation, name);
    await tried(cluster, soFar);
    await cluster.moveSlot(slot, to);
    // The old node has reported the key as gone. The waiter looks at the new node, which reports the DEL.
    const since = await countOf(cluster, 'set');
    await tried(cluster, since);
    const freed = performance.now();
    await to.command('DEL', keyOf(name));
    await within(5000, waiting);
    assert.ok(performance.now() - freed < 600, `${performance.now() - freed} ms`);
    assert.equal(await reservation.release(), 1);
  });

  test('during a move, a key that does not exist yet is locked, renewed, waited for and released on the new node', async (t) => {
    const { slot, names, to } = await newSlot(2);
    const [name, other] = names;
    const move = await cluster.beginMove(slot, to);
    const [one, two] = [onCluster(t, cluster, { interval: 100, ttl: 1.5 }), onCluster(t, cluster)];
    const losses = keepLosses(one);
    const asks = await answered('ASK');
    assert.equal(await one.lock(name), true);
    assert.ok((await answered('ASK')) > asks, 'sent on with ASK');
    assert.equal(await move.from.command('CLUSTER', 'COUNTKEYSINSLOT', slot), 0);
    assert.equal(await to.command('CLUSTER', 'COUNTKEYSINSLOT', slot), 1, 'it lies at the new node');
    assert.equal(await two.lock(name), false);
    await one.ensure_reservation();
    const waiting = wait(t, two, name);
    const start = performance.now();
    await until(() => performance.now() - start > 1700, { what: 'more than the ttl' });
    assert.deepEqual([one.held, losses, two.held], [true, [], false], 'heartbeats go there');
    assert.equal(await one.release(), 1);
    const freed = performance.now();
    assert.equal(await within(10000, waiting), keyOf(name));
    t.diagnostic(`acquired ${(performance.now() - freed).toFixed(0)} ms after the release`);
    assert.ok(performance.now() - freed < 2500, 'by its poll at the latest');
    await cluster.finishMove(move);
    assert.equal(await two.is_held(name), true);
    await two.ensure_reservation();
    assert.equal(await two.lock(other), true);
    assert.equal(await two.release(), 2);
    assert.equal(await to.command('CLUSTER', 'COUNTKEYSINSLOT', slot), 0);
  });

  test('during a move, a key that has not moved is used on the old node, and one that has moved on the new node', async (t) => {
    const { slot, names, to } = await newSlot(3);
    const [here, taken, foreign] = names;
    const reservation = onCluster(t, cluster, { interval: 100, ttl: 1.5 });
    const losses = keepLosses(reservation);
    for (const name of [here, taken]) await reservation.lock(name);
    await cluster.command(keyOf(foreign), 'SET', keyOf(foreign), 'somebody', 'EX', 600);
    const move = await cluster.beginMove(slot, to);
    await cluster.migrateKeys(move, [keyOf(taken), keyOf(foreign)]);
    const other = onCluster(t, cluster);
    for (const name of names) assert.equal(await other.lock(name), false, name);
    const waits = names.map((name) => wait(t, onCluster(t, cluster), name));
    const start = performance.now();
    await until(() => performance.now() - start > 1700, { what: 'more than the ttl' });
    assert.deepEqual([reservation.held, losses], [true, []]);
    assert.equal(await move.from.command('CLUSTER', 'COUNTKEYSINSLOT', slot), 1);
    await reservation.ensure_reservation();
    assert.equal(await reservation.release(), 2);
    await within(10000, Promise.all(waits.slice(0, 2)));
    // A DEL as a redirected client would send it.
    const client = to.client();
    await Promise.all([client.call('ASKING'), client.call('DEL', keyOf(foreign))]);
    await within(10000, waits[2]);
    await cluster.finishMove(move);
    await Promise.all(names.map((name) => cluster.command(keyOf(name), 'DEL', keyOf(name))));
  });

  test('a cancelled move: keys that have not moved stay held, and those that have moved are reported lost at most once', async (t) => {
    const { slot, names, to } = await newSlot(2);
    const [here, gone] = names;
    const reservation = onCluster(t, cluster, { interval: 100, ttl: 1.5 });
    const losses = keepLosses(reservation);
    for (const name of names) await reservation.lock(name);
    const move = await cluster.beginMove(slot, to);
    await cluster.migrateKeys(move, [keyOf(gone)]);
    await until(async () => (await to.command('CLUSTER', 'COUNTKEYSINSLOT', slot)) === 1);
    await cluster.cancelMove(move);
    await until(() => losses.length > 0, { ...patient, what: 'the loss' });
    assert.match(losses[0].message, new RegExp(` lost reservation for ${keyOf(gone)}$`));
    assert.deepEqual([reservation.is_held(gone), reservation.is_held(here)], [false, true]);
    await reservation.ensure_reservation();
    assert.equal(await valueOf(cluster, gone), null, 'never made anew');
    assert.equal(await reservation.release(), 1);
    assert.equal(losses.length, 1);
    assert.equal(await reservation.lock(gone), true, 'free again');
    assert.equal(await reservation.release(), 1);
  });

  test('a move that is cancelled before any key has moved affects no lock', async (t) => {
    const { slot, names, to } = await newSlot(2);
    const holding = await hold(() => onCluster(t, cluster, { interval: 50, ttl: 2 }), 2, {
      resources: names,
    });
    for (let round = 0; round < 3; round += 1) {
      const soFar = await countOf(cluster, 'pexpire');
      const move = await cluster.beginMove(slot, to);
      await until(async () => (await countOf(cluster, 'pexpire')) >= soFar + 4, {
        ...patient,
        what: 'renewals',
      });
      await cluster.cancelMove(move);
    }
    holding.assertNoneLost();
    assert.equal(await holding.release(), 2);
  });

  test('a slot moves back and forth under load: one holder at a time, every waiter is served, nothing is lost', async (t) => {
    const { slot, names, to } = await newSlot(8);
    const from = await cluster.nodeOfSlot(slot);
    const exclusion = watchExclusion(t);
    const settings = { interval: 50, ttl: 5 };
    const holding = await hold(() => onCluster(t, cluster, settings), 4, {
      resources: names.slice(4),
      exclusion,
    });
    const contests = names
      .slice(0, 4)
      .map((name) => contend(t, () => onCluster(t, cluster, settings), name, { count: 3, exclusion }));
    const others = [startWorker(t, cluster), startWorker(t, cluster)];
    let going = true;
    let turnsOfOthers = 0;
    const inside = new Set();
    const compete = async (worker, name) => {
      while (going) {
        await worker.call(name, 'wait_until_lock', name);
        // No instance of this process may count it as held, and neither may the other worker.
        const holders = [...exclusion.watched.get(name)].filter((reservation) => reservation.is_held(name));
        assert.deepEqual([inside.has(name), holders], [false, []], `${name} has one holder`);
        inside.add(name);
        await new Promise(setImmediate);
        turnsOfOthers += 1;
        inside.delete(name);
        assert.equal(await worker.call(name, 'release'), 1);
      }
    };
    const competing = Promise.all(
      others.flatMap((worker) => names.slice(0, 2).map((name) => compete(worker, name))),
    );
    competing.catch(() => {});

    const turns = [];
    for (const target of [to, from, to, from, to, from]) {
      const soFar = [...contests.map((contest) => contest.turns), turnsOfOthers];
      await cluster.moveSlot(slot, target);
      const now = () => [...contests.map((contest) => contest.turns), turnsOfOthers];
      await until(() => now().every((count, place) => count >= soFar[place] + 3), {
        ...patient,
        what: 'turns on every resource, and of others, after the move',
      });
      turns.push(contests.reduce((sum, contest) => sum + contest.turns, 0));
      holding.assertNoneLost();
    }
    going = false;
    const ended = await within(20000, Promise.all(contests.map((contest) => contest.stop())));
    await within(20000, competing);
    t.diagnostic(`turns after each move: ${turns}, and ${turnsOfOthers} in other processes`);
    assert.deepEqual(
      ended.flatMap(({ errors }) => errors.map((error) => `${error.code} ${error.message}`)),
      [],
    );
    assert.deepEqual(
      others.flatMap(({ losses }) => losses),
      [],
    );
    exclusion.assertNever();
    holding.assertNoneLost();
    assert.equal(await holding.release(), 4);
    for (const name of names) assert.equal(await valueOf(cluster, name), null, `${name} was left behind`);
  });

  test('100 slots move at once under 200 locks, and to a node that is new', async (t) => {
    const first = 1000;
    const slots = Array.from({ length: 100 }, (_, index) => first + index);
    const names = namesInSlots((slot) => slot >= first && slot < first + slots.length, 200);
    const holding = await hold(() => onCluster(t, cluster, { interval: 200, ttl: 5 }), 200, {
      resources: names,
    });
    const added = await cluster.addNode();
    for (let start = 0; start < slots.length; start += 20) {
      const moves = await Promise.all(
        slots.slice(start, start + 20).map((slot) => cluster.beginMove(slot, added)),
      );
      await Promise.all(moves.map((move) => cluster.finishMove(move)));
    }
    const soFar = await countOf(cluster, 'pexpire');
    await until(async () => (await countOf(cluster, 'pexpire')) >= soFar + 400, {
      ...patient,
      what: 'renewals',
    });
    holding.assertNoneLost();
    const left = await added.command('DBSIZE');
    assert.equal(left, 200);
    assert.equal(await holding.release(), 200);
    assert.equal(await added.command('DBSIZE'), 0);
    const waiter = onCluster(t, cluster);
    assert.equal(await wait(t, waiter, names[0]), keyOf(names[0]));
    assert.equal(await waiter.release(), 1);
  });
});
