// The checker on exclusion: two holders at once, a hold beyond its lease, untrue answers, lost updates.
'use strict';

const { valueOf } = require('./story');
const { breaks, keeps, story } = require('./verdicts');

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
  'a script that only reads a key that another holds',
  story()
    .locks(100, 'a.1')
    .script(500, 'b.9', 'getex')
    .renew(1000, 'a.1')
    .held('a.1', 2500)
    .releases(2600, 'a.2', 'a.1')
    .ends(4000),
);

// Two holders at once.

breaks(
  ['two at once', 'untrue answer'],
  'the second acquires it while the first is certain',
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
  'a hand-over inside redis, after which the first is still certain',
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
  'the first gets its loss before the second acquires it',
  story()
    .locks(100, 'a.1')
    .theft(300, 'delete')
    .command(299.5, 'del')
    .told(600, 'a.1')
    .locks(700, 'b.1')
    .releases(800, 'b.2', 'b.1'),
);
keeps(
  'the key is stolen, and its holder cannot know yet',
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
  'another key is stolen',
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
  'an answer after the end of its lease, and held is false',
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
  'certain after the end of the lease, which could have been renewed',
  story().locks(100, 'a.1').held('a.1', 2110).told(2120, 'a.1'),
);
breaks(
  'held too long',
  'certain after the call of its release',
  story().locks(100, 'a.1').releases(500, 'a.2', 'a.1').held('a.1', 500.1),
);
breaks(
  'held too long',
  'certain after the report of its loss',
  story().locks(100, 'a.1').command(200, 'del').theft(200.5, 'delete').told(600, 'a.1').held('a.1', 601),
);
breaks(
  'held too long',
  'stolen, and certain beyond the known deadline',
  story().locks(100, 'a.1').command(200, 'del').theft(200.5, 'delete').held('a.1', 2300).told(2301, 'a.1'),
);
keeps(
  'a renewal whose line is lost with the server, and the key is seen afterwards',
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
  'true, and redis has never had the value',
  story()
    .call(100, 'a.1', 'lock')
    .answer(102, 'a.1', { value: true, val: valueOf('a.1') })
    .call(200, 'a.2', 'release', { asks: ['a.1'] })
    .answer(201, 'a.2', { value: 1 }),
);
breaks(
  'untrue answer',
  'a lost value is set again',
  story()
    .locks(100, 'a.1')
    .command(200, 'del')
    .theft(200.5, 'delete')
    .set(300, 'a.1')
    .releases(400, 'a.2', 'a.1'),
);
breaks(
  'untrue answer',
  'false, and the key was free',
  story().call(100, 'a.1', 'lock').answer(102, 'a.1', { value: false }),
);
keeps(
  'false, and the key was held',
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
  'one writes after the other',
  twice()
    .section('a.1', 'a.1.s1', { read: null, at: 200 })
    .section('b.1', 'b.1.s1', { read: '1:a.1.s1', at: 1200 }),
);
breaks(
  'lost update',
  'both are certain, and the second overwrites a value that it has not read',
  twice()
    .section('a.1', 'a.1.s1', { read: null, at: 200 })
    .section('b.1', 'b.1.s1', { read: null, at: 1200, old: '1:a.1.s1' }),
);
keeps(
  'the other write comes when its writer is no longer certain',
  twice()
    .section('a.1', 'a.1.s1', { read: null, at: 200, wrote: 1250, held: false })
    .section('b.1', 'b.1.s1', { read: null, at: 1200, old: '1:a.1.s1' }),
);
keeps(
  'this write comes when its writer is no longer certain',
  twice()
    .section('b.1', 'b.1.s1', { read: null, at: 1200 })
    .section('a.1', 'a.1.s1', { read: null, at: 200, wrote: 1400, old: '1:b.1.s1', held: false }),
);
breaks(
  'lost update',
  'the fence is open, and the counter has changed since the read',
  twice().section('b.1', 'b.1.s1', { mode: 'fenced', read: null, at: 1200, old: '1:a.1.s1', held: false }),
);
breaks(
  'lost update',
  'held before and after, and the fence is shut',
  twice().section('b.1', 'b.1.s1', { mode: 'fenced', read: null, at: 1200, done: false, holder: 'x' }),
);
keeps(
  'the fence is shut, and the writer is no longer certain',
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
  'the lock of the other is stolen, and it cannot know yet',
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
