// The checker itself: for each rule a history that keeps it, those that break it, and those that only look like it.
'use strict';

const assert = require('node:assert/strict');
const { test } = require('node:test');
const { check } = require('./checker');
const { excerpt } = require('./history');
const { Story, valueOf } = require('./story');

/** The rules that a story breaks, each once. */
function broken(story) {
  return [...new Set(check(story.history).violations.map(({ rule }) => rule))].sort();
}

function keeps(name, story) {
  test(`nothing wrong: ${name}`, () => {
    assert.deepEqual(check(story.history).violations, []);
  });
}

function breaks(rules, name, story) {
  test(`${rules}: ${name}`, () => {
    assert.deepEqual(broken(story), [].concat(rules).sort());
  });
}

const story = () => new Story();

keeps(
  'two take turns',
  story()
    .locks(100, 'a.1')
    .renew(700, 'a.1')
    .held('a.1', 900)
    .releases(1000, 'a.2', 'a.1')
    .locks(1010, 'b.1')
    .releases(1500, 'b.2', 'b.1')
    .ends(2000),
);

keeps(
  'a script that only looks at what somebody else holds',
  story()
    .locks(100, 'a.1')
    .script(500, 'b.9', 'getex')
    .renew(1000, 'a.1')
    .held('a.1', 2500)
    .releases(2600, 'a.2', 'a.1')
    .ends(4000),
);

// Two at once.

breaks(
  ['two at once', 'untrue answer'],
  'the second got it while the first was certain',
  story()
    .locks(100, 'a.1')
    .locks(500, 'b.1')
    .held('a.1', 600)
    .releases(900, 'a.2', 'a.1')
    .call(950, 'b.2', 'release', { asks: ['b.1'] })
    .fails(951, 'b.2'),
);
breaks(
  'two at once',
  'a key that went from one to the other inside redis, and the first still certain',
  story()
    .locks(100, 'a.1')
    .call(200, 'b.1', 'wait')
    .script(300, 'a.1', 'set', [valueOf('b.1'), 'PX', '2000'])
    .answer(301, 'b.1', { value: 'reservation-k', val: valueOf('b.1') })
    .held('b.1', 301.5)
    .held('a.1', 302)
    .releases(500, 'a.2', 'a.1'),
);
keeps(
  'the first was told of its loss before the second got it',
  story()
    .locks(100, 'a.1')
    .theft(300, 'delete')
    .command(299.5, 'del')
    .told(600, 'a.1')
    .locks(700, 'b.1')
    .releases(800, 'b.2', 'b.1'),
);
keeps(
  'it was deleted by force, and its holder could not know yet',
  story()
    .locks(100, 'a.1')
    .command(299.5, 'del')
    .theft(300, 'delete')
    .locks(310, 'b.1')
    .held('a.1', 400)
    .told(700, 'a.1')
    .releases(800, 'b.2', 'b.1'),
);
breaks(
  ['two at once', 'held too long', 'losses'],
  'another key was deleted by force',
  story()
    .locks(100, 'a.1')
    .script(300, 'a.1', 'del')
    .theft(300, 'delete', 'another')
    .locks(310, 'b.1')
    .held('a.1', 400)
    .told(700, 'a.1')
    .releases(800, 'b.2', 'b.1'),
);

keeps(
  'an answer that came when its lease was over, and is not held',
  story()
    .call(100, 'a.1', 'lock', { renews: false })
    .set(101, 'a.1')
    .locks(2200, 'b.1')
    .answer(2300, 'a.1', { value: true, val: valueOf('a.1') })
    .notHeld('a.1', 2301)
    .told(2302, 'a.1')
    .held('b.1', 2400)
    .releases(2500, 'b.2', 'b.1')
    .add(2299, 'a', 'blocked', { from: 150 }),
);

// Held too long.

breaks(
  ['held too long', 'losses'],
  'certain when the lease had ended, which nothing has kept from being renewed',
  story().locks(100, 'a.1').held('a.1', 2110).told(2120, 'a.1'),
);
breaks(
  'held too long',
  'certain after the call of its release',
  story().locks(100, 'a.1').releases(500, 'a.2', 'a.1').held('a.1', 500.1),
);
breaks(
  'held too long',
  'certain after its loss was told',
  story().locks(100, 'a.1').command(200, 'del').theft(200.5, 'delete').told(600, 'a.1').held('a.1', 601),
);
breaks(
  'held too long',
  'robbed, and certain beyond the deadline that was known',
  story().locks(100, 'a.1').command(200, 'del').theft(200.5, 'delete').held('a.1', 2300).told(2301, 'a.1'),
);
keeps(
  'a renewal whose line was lost with the server: the key was seen afterwards',
  story()
    .locks(100, 'a.1')
    .fault(1900, 2300, 'crash', 'server')
    .add(2250, 'redis', 'state', { key: 'k', value: valueOf('a.1'), left: 1600, from: 2249 })
    .held('a.1', 2260)
    .releases(2400, 'a.2', 'a.1'),
);

// Untrue answers.

breaks(
  'untrue answer',
  'acquired, and redis never had the value',
  story()
    .call(100, 'a.1', 'lock')
    .answer(102, 'a.1', { value: true, val: valueOf('a.1') })
    .call(200, 'a.2', 'release', { asks: ['a.1'] })
    .answer(201, 'a.2', { value: 1 }),
);
breaks(
  'untrue answer',
  'a value that was lost is set again',
  story()
    .locks(100, 'a.1')
    .command(200, 'del')
    .theft(200.5, 'delete')
    .set(300, 'a.1')
    .releases(400, 'a.2', 'a.1'),
);
breaks(
  'untrue answer',
  '"held", and it was free',
  story().call(100, 'a.1', 'lock').answer(102, 'a.1', { value: false }),
);
keeps(
  '"held", as it was',
  story()
    .locks(50, 'b.1')
    .call(100, 'a.1', 'lock')
    .answer(102, 'a.1', { value: false })
    .releases(200, 'b.2', 'b.1'),
);

// Lost updates.

const twice = () =>
  story().locks(100, 'a.1').releases(1000, 'a.2', 'a.1').locks(1100, 'b.1').releases(1900, 'b.2', 'b.1');

keeps(
  'one wrote after the other',
  twice()
    .section('a.1', 'a.1.s1', { read: null, at: 200 })
    .section('b.1', 'b.1.s1', { read: '1:a.1.s1', at: 1200 }),
);
breaks(
  'lost update',
  'both certain, and the second wrote over what it had not read',
  twice()
    .section('a.1', 'a.1.s1', { read: null, at: 200 })
    .section('b.1', 'b.1.s1', { read: null, at: 1200, old: '1:a.1.s1' }),
);
keeps(
  'the other write came when its writer was not certain any more',
  twice()
    .section('a.1', 'a.1.s1', { read: null, at: 200, wrote: 1250, held: false })
    .section('b.1', 'b.1.s1', { read: null, at: 1200, old: '1:a.1.s1' }),
);
keeps(
  'this write came when its writer was not certain any more',
  twice()
    .section('b.1', 'b.1.s1', { read: null, at: 1200 })
    .section('a.1', 'a.1.s1', { read: null, at: 200, wrote: 1400, old: '1:b.1.s1', held: false }),
);
breaks(
  'lost update',
  'the fence was open, and the counter was not what had been read',
  twice().section('b.1', 'b.1.s1', { mode: 'fenced', read: null, at: 1200, old: '1:a.1.s1', held: false }),
);
breaks(
  'lost update',
  'held before and after, and the fence was shut',
  twice().section('b.1', 'b.1.s1', { mode: 'fenced', read: null, at: 1200, done: false, holder: 'x' }),
);
keeps(
  'the fence was shut, and the writer was not certain any more',
  twice().section('b.1', 'b.1.s1', {
    mode: 'fenced',
    read: null,
    at: 1200,
    done: false,
    held: false,
    holder: 'x',
  }),
);

keeps(
  'the other was robbed, and could not know yet',
  story()
    .locks(100, 'a.1')
    .command(200, 'del')
    .theft(200.5, 'delete')
    .locks(300, 'b.1')
    .section('a.1', 'a.1.s1', { read: null, at: 320, wrote: 360 })
    .section('b.1', 'b.1.s1', { read: null, at: 310, wrote: 400, old: '1:a.1.s1' })
    .told(500, 'a.1')
    .releases(600, 'b.2', 'b.1'),
);

// Losses.

const robbed = () => story().locks(100, 'a.1').command(200, 'del').theft(200.5, 'delete').notHeld('a.1', 600);

keeps('a loss is told', robbed().told(600, 'a.1').ends(5000));
breaks('losses', 'told twice', robbed().told(600, 'a.1').told(601, 'a.1').ends(5000));
breaks(
  'losses',
  'told by an event and by a release',
  robbed()
    .told(600, 'a.1')
    .call(700, 'a.2', 'release', { asks: ['a.1'] })
    .fails(702, 'a.2', 'ERR_RESERVATION_LOST', { lost: ['reservation-k'] })
    .ends(5000),
);
keeps(
  'told by a release alone',
  robbed()
    .call(700, 'a.2', 'release', { asks: ['a.1'] })
    .fails(702, 'a.2', 'ERR_RESERVATION_LOST', { lost: ['reservation-k'] })
    .ends(5000),
);
breaks('losses', 'never told', robbed().ends(5000));
breaks('losses', 'told late', robbed().told(3500, 'a.1').ends(5000));
keeps(
  'told late, by a process that was stopped',
  robbed().fault(1500, 3400, 'stop', 'process', { slot: 'a', worker: 'a' }).told(3500, 'a.1').ends(5000),
);
keeps(
  'never told, to a process that was killed',
  robbed()
    .fault(500, 510, 'kill', 'process', { slot: 'a', worker: 'a' })
    .exit(511, 'a', null, 'SIGKILL')
    .ends(5000),
);
breaks(
  'losses',
  'nobody was told, and a release found nothing',
  robbed()
    .call(700, 'a.2', 'release', { asks: ['a.1'] })
    .answer(702, 'a.2', { value: 0 })
    .ends(5000),
);
breaks('losses', 'released and lost', story().locks(100, 'a.1').releases(500, 'a.2', 'a.1').told(600, 'a.1'));
breaks(
  ['answers', 'losses'],
  'released twice',
  story()
    .locks(100, 'a.1')
    .releases(500, 'a.2', 'a.1')
    .call(600, 'a.3', 'release', { asks: ['a.1', 'a.9'] })
    .answer(601, 'a.3', { value: 1 })
    .answer(602, 'a.3', { value: 1 }),
);
breaks(
  'losses',
  'lost for nothing',
  story().locks(4000, 'a.1').renew(4600, 'a.1').told(4700, 'a.1').script(4701, 'a.1', 'del').ends(9000),
);
breaks(
  'losses',
  'told before the answer to its call',
  story()
    .call(100, 'a.1', 'lock', { renews: false })
    .set(101, 'a.1')
    .told(2200, 'a.1')
    .answer(2201, 'a.1', { value: true })
    .add(2199, 'a', 'blocked', { from: 102 })
    .ends(5000),
);
breaks('losses', 'of what nobody had', story().told(100, 'a.1').ends(200));

// Answers.

breaks(
  'answers',
  'two of them',
  story().locks(100, 'a.1').answer(110, 'a.1', { value: true }).releases(200, 'a.2', 'a.1'),
);
breaks('answers', 'none', story().call(100, 'a.1', 'lock').ends(20000));
breaks('answers', 'late', story().call(100, 'a.1', 'lock').fails(12000, 'a.1'));
keeps(
  'late, by a process that was stopped',
  story()
    .call(100, 'a.1', 'lock')
    .fault(110, 11000, 'stop', 'process', { slot: 'a', worker: 'a' })
    .fails(12000, 'a.1'),
);
keeps(
  'none, for a process that died',
  story().call(100, 'a.1', 'lock').add(150, 'a', 'dies', { how: 'exit' }).exit(160, 'a', 3).ends(20000),
);
breaks(
  'answers',
  'a wait beyond its timeout',
  story()
    .locks(50, 'b.1')
    .call(100, 'a.1', 'wait', { timeout: 300 })
    .fails(2100, 'a.1', 'ERR_RESERVATION_TIMEOUT')
    .releases(1600, 'b.2', 'b.1'),
);
breaks(
  'answers',
  'a wait beyond its abort',
  story()
    .locks(50, 'b.1')
    .call(100, 'a.1', 'wait')
    .of('a.1', 200, 'abort')
    .releases(1600, 'b.2', 'b.1')
    .locks(1700, 'b.3')
    .releases(2000, 'b.4', 'b.3')
    .locks(2500, 'b.5')
    .releases(3000, 'b.6', 'b.5')
    .ends(9000),
);
breaks(
  'answers',
  'a release of more than was held',
  story()
    .locks(100, 'a.1')
    .call(200, 'a.2', 'release', { asks: ['a.1'] })
    .script(201, 'a.1', 'del')
    .answer(202, 'a.2', { value: 2 }),
);

// Leftovers.

const late = () => story().call(100, 'a.1', 'lock', { ttl: 9000 }).set(101, 'a.1', 9000).fails(800, 'a.1');

keeps('the key of a call that failed is deleted', late().script(1500, 'a.1', 'del').ends(9000));
breaks('leftover', 'it stays, with nothing wrong', late().ends(12000));
keeps(
  'it stays while redis is away',
  late().fault(700, 6000, 'pause', 'server').script(6300, 'a.1', 'del').ends(12000),
);
keeps(
  'it stays, and its process is dead',
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
  'told lost, and renewed',
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
  'its release failed, and it is renewed all the same',
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
  'a waiter gets it',
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
  'it is free, and redis cannot be reached',
  waits()
    .fault(450, 3500, 'lose', 'link', { slot: 'a', worker: 'a' })
    .set(4000, 'a.1')
    .answer(4001, 'a.1', { value: 'reservation-k', val: valueOf('a.1') })
    .releases(4100, 'a.2', 'a.1')
    .ends(9000),
);
breaks(
  'forgotten waiter',
  'it is free, and somebody else cannot reach redis',
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

test('an offence comes with its part of the history', () => {
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
