// The checker on what is left: leftover keys, forgotten waiters, how processes end; and the history around a violation.
'use strict';

const assert = require('node:assert/strict');
const { test } = require('node:test');
const { check } = require('./checker');
const { excerpt } = require('./history');
const { valueOf } = require('./story');
const { breaks, keeps, story } = require('./verdicts');

// Leftovers.

const late = () => story().call(100, 'a.1', 'lock', { ttl: 9000 }).set(101, 'a.1', 9000).fails(800, 'a.1');

keeps('the key of a call that failed is deleted', late().script(1500, 'a.1', 'del').ends(9000));
breaks('leftover', 'it stays, without a fault', late().ends(12000));
keeps(
  'it stays while redis is down',
  late().fault(700, 6000, 'pause', 'server').script(6300, 'a.1', 'del').ends(12000),
);
keeps(
  'it stays, and its process was killed',
  late()
    .fault(900, 910, 'kill', 'process', { slot: 'a', worker: 'a' })
    .exit(911, 'a', null, 'SIGKILL')
    .ends(12000),
);
breaks(
  'leftover',
  'it is renewed',
  story()
    .call(100, 'a.1', 'lock')
    .set(101, 'a.1')
    .fails(800, 'a.1')
    .renew(1900, 'a.1')
    .renew(3800, 'a.1')
    .ends(9000),
);
breaks(
  'leftover',
  'released, and still there',
  story()
    .locks(100, 'a.1')
    .call(500, 'a.2', 'release', { asks: ['a.1'] })
    .answer(502, 'a.2', { value: 1 })
    .script(900, 'a.1', 'del'),
);
breaks(
  'leftover',
  'reported as lost, and renewed',
  story()
    .fault(3900, 4600, 'pause', 'server')
    .locks(4000, 'a.1')
    .told(4700, 'a.1')
    .renew(5900, 'a.1')
    .renew(7800, 'a.1')
    .ends(12000),
);
breaks(
  'leftover',
  'its release fails, and it is still renewed',
  story()
    .locks(100, 'a.1')
    .call(500, 'a.2', 'release', { asks: ['a.1'] })
    .fails(600, 'a.2')
    .renew(1900, 'a.1')
    .renew(3800, 'a.1')
    .ends(9000),
);

// Forgotten waiters.

const waits = () => story().locks(100, 'b.1').call(200, 'a.1', 'wait').releases(500, 'b.2', 'b.1');

keeps(
  'a waiter acquires it',
  waits()
    .set(510, 'a.1')
    .answer(511, 'a.1', { value: 'reservation-k', val: valueOf('a.1') })
    .releases(600, 'a.2', 'a.1')
    .ends(9000),
);
breaks(
  'forgotten waiter',
  'it is free, and the waiter waits',
  waits()
    .set(4000, 'a.1')
    .answer(4001, 'a.1', { value: 'reservation-k', val: valueOf('a.1') })
    .releases(4100, 'a.2', 'a.1')
    .ends(9000),
);
keeps(
  'it is free, and redis is unreachable',
  waits()
    .fault(450, 3500, 'lose', 'link', { slot: 'a', worker: 'a' })
    .set(4000, 'a.1')
    .answer(4001, 'a.1', { value: 'reservation-k', val: valueOf('a.1') })
    .releases(4100, 'a.2', 'a.1')
    .ends(9000),
);
breaks(
  'forgotten waiter',
  'it is free, and redis is unreachable only for another process',
  waits()
    .fault(450, 3500, 'lose', 'link', { slot: 'c', worker: 'c' })
    .set(4000, 'a.1')
    .answer(4001, 'a.1', { value: 'reservation-k', val: valueOf('a.1') })
    .releases(4100, 'a.2', 'a.1')
    .ends(9000),
);
keeps(
  'it is free, and the waiter has left',
  waits().of('a.1', 700, 'abort').fails(701, 'a.1', 'AbortError').ends(9000),
);
keeps(
  "it is free, and the waiter's time is over, which its blocked event loop reads later",
  story()
    .locks(100, 'b.1')
    .call(200, 'a.1', 'wait', { timeout: 400 })
    .add(8000, 'a', 'blocked', { from: 210 })
    .releases(500, 'b.2', 'b.1')
    .of('a.1', 8001, 'answer', { error: { code: 'ERR_RESERVATION_TIMEOUT' } })
    .ends(9000),
);

// Ends.

keeps('a process that has drained', story().of('a.0', 100, 'drained').exit(200, 'a').ends(300));
breaks('ends', 'a process that ended by itself', story().of('a.0', 100, 'up').exit(200, 'a', 0).ends(300));
breaks('ends', 'a crash', story().of('a.0', 100, 'up').exit(200, 'a', null, 'SIGSEGV').ends(300));
breaks(
  'ends',
  'something printed',
  story().of('a.0', 100, 'drained').exit(200, 'a', 0, null, 'a warning').ends(300),
);
breaks('ends', 'something thrown', story().add(100, 'a', 'uncaught', { message: 'TypeError' }).ends(300));
breaks(
  'ends',
  'a process that stays',
  story().call(100, 'a.1', 'wait').add(900, 'chaos', 'stuck', { worker: 'a' }).ends(1000),
);
breaks('ends', 'a key that stays', story().ends(300, ['somebody']));

test('a violation is printed with its part of the history', () => {
  const { history } = story()
    .locks(100, 'a.1')
    .locks(500, 'b.1')
    .held('a.1', 600)
    .locks(500, 'c.1', { key: 'other' });
  const { violations } = check(history);
  const text = excerpt(
    history,
    violations.find(({ rule }) => rule === 'two at once'),
  );
  assert.match(text, /0\.1000 a {6}call op="a\.1" kind="lock"/);
  assert.match(text, /0\.5020 b {6}answer op="b\.1"/);
  assert.doesNotMatch(text, /call op="c\.1"/);
});
