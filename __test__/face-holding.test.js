// What an instance shows of its leases: _reserve_key, the signal and its periods, the timer for subclasses. These leases are
// made by hand; tests with redis have real ones.
'use strict';

const assert = require('node:assert/strict');
const { test } = require('node:test');
const { Call } = require('../lib/calls/call');
const { Holding } = require('../lib/leases/holding');

function make(Base = Holding) {
  // The native side, which knows the value of a lease, is not loaded here.
  class HandMade extends Base {
    value_of({ key }) {
      return `value of ${key}`;
    }
  }
  const instance = { _lost_reservation: false };
  const holding = new HandMade();
  let number = 0;
  const call = new Call('lock', () => {});
  return {
    instance,
    holding,
    add: (key) => holding.add(instance, key, `value of ${key}`, (number += 1), call.scope),
    drop: (...keys) =>
      holding.drop(
        instance,
        keys.map((key) => holding.get(key)),
      ),
    lose: (key, error) => holding.lose(instance, holding.get(key), error),
  };
}

test('_reserve_key and _reserve_val are those of the newest lease, and are deleted with the last', () => {
  const { instance, add, drop } = make();
  for (const key of ['a', 'b', 'c', 'd']) add(key);
  assert.deepEqual([instance._reserve_key, instance._reserve_val], ['d', 'value of d']);
  drop('b');
  assert.equal(instance._reserve_key, 'd');
  drop('d');
  assert.equal(instance._reserve_key, 'c');
  add('a');
  assert.equal(instance._reserve_key, 'a');
  drop('a');
  assert.equal(instance._reserve_key, 'c');
  drop('c');
  assert.deepEqual(Object.keys(instance), ['_lost_reservation']);
});

test('leases that begin and end while others are held leave nothing behind', () => {
  const { holding, add, drop } = make();
  add('kept');
  for (let i = 0; i < 1000; i++) {
    add(`k${i + 1}`);
    if (i > 0) drop(`k${i}`);
  }
  assert.equal(holding.size, 2);
  assert.deepEqual(
    holding.all().map(({ key }) => key),
    ['kept', 'k1000'],
  );
  assert.equal(holding.held.by_key.size, 2);
});

test('leases may end in any order: the newest one left is named, and ended ones are soon forgotten', () => {
  const { holding, instance, add, drop } = make();
  const expected = [];
  let random = 1;
  const below = (limit) => (random = (random * 48271) % 2147483647) % limit;
  for (let i = 0; i < 20000; i++) {
    // The number of leases grows and shrinks in turns, mostly by the newest.
    const grows = below(10) < (i % 2000 < 1000 ? 6 : 4);
    if (grows || expected.length === 0) {
      const key = `k${below(200)}`;
      add(key);
      if (expected.includes(key)) expected.splice(expected.indexOf(key), 1);
      expected.push(key);
    } else {
      const back = below(3) === 0 ? below(expected.length) : 0;
      drop(...expected.splice(expected.length - 1 - back, 1));
    }
    assert.equal(instance._reserve_key, expected[expected.length - 1]);
    assert.equal(holding.size, expected.length);
    const { order } = holding.held || {};
    assert.ok(order == null || order.length <= 2 * expected.length + 1);
  }
  assert.deepEqual(
    holding.all().map(({ key }) => key),
    expected,
  );
});

test('an instance whose fields cannot be written can hold leases', () => {
  const { holding, instance, add, drop } = make();
  Object.freeze(instance);
  add('a');
  assert.equal(holding.size, 1);
  drop('a');
  assert.equal(holding.size, 0);
});

test('signal: one for each period; the first loss in the period aborts it', () => {
  const { holding, instance, add, drop, lose } = make();
  assert.equal(holding.signal(), undefined);
  add('a');
  const first = holding.signal();
  add('b');
  assert.equal(holding.signal(), first);
  drop('a', 'b');
  assert.equal(holding.signal(), undefined);
  assert.equal(first.aborted, false);

  add('a');
  const second = holding.signal();
  assert.notEqual(second, first);
  add('b');
  const reason = new Error('lost a');
  lose('a', reason);
  assert.equal(second.aborted, true);
  assert.equal(second.reason, reason);
  assert.equal(instance._lost_reservation, true);
  lose('b', new Error('lost b'));
  assert.equal(second.reason, reason);
  // For code that reads it late.
  assert.equal(holding.signal(), second);
  add('a');
  assert.equal(holding.signal().aborted, false, 'a new acquisition, a new period');
  drop('a');
  assert.equal(holding.signal(), undefined);
});

test('signal: first read after everything was lost, it is aborted, until the next acquisition', () => {
  const { holding, add, drop, lose } = make();
  add('a');
  add('b');
  const reason = new Error('lost a');
  lose('a', reason);
  lose('b', new Error('lost b'));
  assert.equal(holding.signal().reason, reason);
  add('a');
  assert.equal(holding.signal().aborted, false);
  add('b');
  lose('a', reason);
  drop('b');
  assert.equal(holding.signal().reason, reason, 'the release of another does not take the loss back');
  add('a');
  drop('a');
  assert.equal(holding.signal(), undefined, 'after a release');
});

test('signal: an acquisition after a loss starts a new period, also while other leases are held', () => {
  const { holding, add, lose } = make();
  add('a');
  add('b');
  const first = holding.signal();
  lose('a', new Error('lost a'));
  add('c');
  const second = holding.signal();
  assert.deepEqual([first.aborted, second.aborted], [true, false]);
  const reason = new Error('lost b');
  lose('b', reason);
  assert.equal(second.reason, reason);
});

test('signal: first read after a loss, while other leases are held, it is aborted', () => {
  const { holding, instance, add, lose } = make();
  add('a');
  add('b');
  const reason = new Error('lost');
  lose('a', reason);
  assert.equal(holding.signal().reason, reason);
  assert.equal(instance._reserve_key, 'b');
  add('c');
  assert.equal(instance._lost_reservation, false);
});

/** Fakes the clock, and loads a new copy of the files that use it: loaded ones have Node's own timers. */
function withFakedClock(t) {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const places = ['timers', 'leases/holding'].map((name) => require.resolve(`../lib/${name}`));
  const loaded = places.map((place) => require.cache[place]);
  for (const place of places) delete require.cache[place];
  const { Holding: Faked } = require('../lib/leases/holding');
  places.forEach((place, index) => (require.cache[place] = loaded[index]));
  return Faked;
}

test('the timer fires at each interval while a lease is held', (t) => {
  const { holding, add, drop } = make(withFakedClock(t));
  let beats = 0;
  let interval = 100;
  add('a');
  holding.start_timer(
    () => interval,
    () => (beats += 1),
  );
  t.mock.timers.tick(99);
  assert.equal(beats, 0);
  t.mock.timers.tick(1);
  assert.equal(beats, 1);
  interval = 50;
  t.mock.timers.tick(100);
  assert.equal(beats, 2);
  t.mock.timers.tick(50);
  assert.equal(beats, 3);
  drop('a');
  t.mock.timers.tick(1000);
  assert.equal(beats, 3);
});

test('the timer takes intervals that are too long for a timer of Node, and Infinity', (t) => {
  const Faked = withFakedClock(t);
  const month = 30 * 24 * 3600 * 1000;
  let beats = 0;
  const { holding, add } = make(Faked);
  add('a');
  holding.start_timer(
    () => month,
    () => (beats += 1),
  );
  // In the same pieces as the timer: a mocked timer that is set during a tick counts from the end of that tick.
  const longest = Math.pow(2, 31) - 1;
  t.mock.timers.tick(longest);
  t.mock.timers.tick(month - longest - 1);
  assert.equal(beats, 0);
  t.mock.timers.tick(1);
  assert.equal(beats, 1);

  const never = make(Faked);
  never.add('a');
  never.holding.start_timer(() => Infinity, assert.fail);
  t.mock.timers.tick(12 * month);
});
