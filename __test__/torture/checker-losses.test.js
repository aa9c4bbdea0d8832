// The checker on reports to callers: each loss once and in time, each answer once and in time.
'use strict';

const { breaks, keeps, story } = require('./verdicts');

// Losses.

const robbed = () => story().locks(100, 'a.1').command(200, 'del').theft(200.5, 'delete').notHeld('a.1', 600);

keeps('a loss is reported', robbed().told(600, 'a.1').ends(5000));
breaks('losses', 'reported twice', robbed().told(600, 'a.1').told(601, 'a.1').ends(5000));
breaks(
  'losses',
  'reported by an event and by a release',
  robbed()
    .told(600, 'a.1')
    .call(700, 'a.2', 'release', { asks: ['a.1'] })
    .fails(702, 'a.2', 'ERR_RESERVATION_LOST', { lost: ['reservation-k'] })
    .ends(5000),
);
keeps(
  'reported only by a release',
  robbed()
    .call(700, 'a.2', 'release', { asks: ['a.1'] })
    .fails(702, 'a.2', 'ERR_RESERVATION_LOST', { lost: ['reservation-k'] })
    .ends(5000),
);
breaks('losses', 'never reported', robbed().ends(5000));
breaks('losses', 'reported late', robbed().told(3500, 'a.1').ends(5000));
keeps(
  'reported late, by a process that was stopped',
  robbed().fault(1500, 3400, 'stop', 'process', { slot: 'a', worker: 'a' }).told(3500, 'a.1').ends(5000),
);
keeps(
  'never reported, to a process that was killed',
  robbed()
    .fault(500, 510, 'kill', 'process', { slot: 'a', worker: 'a' })
    .exit(511, 'a', null, 'SIGKILL')
    .ends(5000),
);
breaks(
  'losses',
  'never reported, and a release answers 0',
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
  'lost without a reason',
  story().locks(4000, 'a.1').renew(4600, 'a.1').told(4700, 'a.1').script(4701, 'a.1', 'del').ends(9000),
);
breaks(
  'losses',
  'reported before the answer to its call',
  story()
    .call(100, 'a.1', 'lock', { renews: false })
    .set(101, 'a.1')
    .told(2200, 'a.1')
    .answer(2201, 'a.1', { value: true })
    .add(2199, 'a', 'blocked', { from: 102 })
    .ends(5000),
);
breaks('losses', 'of a lock that nobody has acquired', story().told(100, 'a.1').ends(200));

// Answers.

breaks(
  'answers',
  'two answers',
  story().locks(100, 'a.1').answer(110, 'a.1', { value: true }).releases(200, 'a.2', 'a.1'),
);
breaks('answers', 'no answer', story().call(100, 'a.1', 'lock').ends(20000));
breaks('answers', 'a late answer', story().call(100, 'a.1', 'lock').fails(12000, 'a.1'));
keeps(
  'a late answer, in a process that was stopped',
  story()
    .call(100, 'a.1', 'lock')
    .fault(110, 11000, 'stop', 'process', { slot: 'a', worker: 'a' })
    .fails(12000, 'a.1'),
);
keeps(
  'no answer, in a process that has ended',
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
  'a release that counts more than was held',
  story()
    .locks(100, 'a.1')
    .call(200, 'a.2', 'release', { asks: ['a.1'] })
    .script(201, 'a.1', 'del')
    .answer(202, 'a.2', { value: 2 }),
);
