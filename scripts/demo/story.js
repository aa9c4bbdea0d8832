// The demo's story: three workers want one lock. One blocks its event loop, and keeps the lock; one is killed, and the lock
// passes on; one loses the lock because redis lost its data, and gets the loss. The order of holders is not arranged: each
// scene is played with the current holder.
'use strict';

const { performance } = require('node:perf_hooks');
const { setTimeout: sleep } = require('node:timers/promises');
const { within } = require('../../__test__/support/wait');
const { Observer } = require('./observer');
const { openRedis } = require('./redis');
const { Timeline } = require('./timeline');
const { Worker } = require('./cast');

const key = 'reservation-nightly-report';
const ttl = 2000;
const lossClaim = 'the holder is told, once, when redis has forgotten the lock';

/**
 * Plays and prints the story. Returns whether all that it claims happened. The events, and what redis showed meanwhile, go
 * into `recording`, if one is given.
 */
async function playStory(recording = {}) {
  const timeline = new Timeline();
  const redis = await openRedis();
  timeline.cast('redis', 'yellow');
  timeline.cast('eye', 'blue');
  timeline.event('redis', redis.described);
  const stage = { timeline, redis, workers: [], observer: new Observer(redis.client, key) };
  try {
    const { value: holder } = await stage.observer.look();
    if (holder) throw new Error(`This redis has ${key} already, held by ${holder}: the demo needs it free.`);
    stage.observer.start();
    await within(28000, playScenes(stage), 'the end of the story');
  } finally {
    await stage.observer.stop();
    await Promise.all(stage.workers.map(({ child }) => child.kill()));
    await redis.close();
  }
  Object.assign(recording, {
    marks: timeline.marks,
    looks: stage.observer.seen,
    pids: pidsOf(stage.workers),
  });
  return timeline.conclude();
}

function pidsOf(workers) {
  return Object.fromEntries(workers.map(({ name, pid }) => [name, pid]));
}

async function playScenes(stage) {
  await race(stage);
  const waiting = new Set(stage.workers);
  let isKilled = false;
  while (waiting.size > 0) {
    const holder = await Promise.race([...waiting].map((worker) => begins(worker)));
    waiting.delete(holder);
    if (holder.isCoffee) {
      await playBlocked(stage, holder);
    } else if (!isKilled) {
      isKilled = true;
      await playKilled(stage, holder, [...waiting]);
    } else {
      await playForgotten(stage, holder);
    }
  }
}

async function begins(worker) {
  await worker.said('job begins', 25000);
  return worker;
}

/** All three ask for the same lock at the same time. */
async function race(stage) {
  const { timeline, redis, workers } = stage;
  timeline.scene('Three processes want nightly-report (a lock that lives 2 s and is renewed every 0.5 s)');
  const narrate = (worker, event, details) => {
    timeline.mark(worker.name, worker.isCoffee && event === 'job begins' ? 'blocks' : event);
    timeline.event(worker.name, tellEvent(worker, event, details));
  };
  for (const [name, script, colour] of [
    ['bob', 'worker.js', 'cyan'],
    ['cleo', 'worker.js', 'magenta'],
    ['ada', 'worker.coffee', 'green'],
  ]) {
    timeline.cast(name, colour);
    workers.push(new Worker({ name, script, environment: redis.environment, onEvent: narrate }));
  }
  const [bob, cleo, ada] = workers;
  // ada is the slowest to start, since her code is compiled first. The others start when she does.
  await ada.said('wants the lock');
  for (const worker of [bob, cleo]) worker.child.send('go');
  const answers = await Promise.all(
    workers.map((worker) =>
      Promise.race([worker.said('lock true').then(() => true), worker.said('lock false').then(() => false)]),
    ),
  );
  const winners = answers.filter(Boolean).length;
  timeline.fact('of three that ask at once, exactly one gets the lock', winners === 1, `${winners} of 3`);
}

/** The old worker blocks its event loop for longer than its ttl, and keeps the lock. */
async function playBlocked({ timeline, observer }, worker) {
  const begin = performance.now();
  const renewedBefore = worker.renewals;
  await worker.said('job ends');
  const end = performance.now();
  await worker.said('released');
  const looks = observer.between(begin, end);
  const kept = looks.filter(({ value }) => isOf(worker, value));
  const least = Math.min(...kept.map(({ left }) => left));
  const renewed = worker.renewals - renewedBefore;
  const seconds = ((end - begin) / 1000).toFixed(1);
  timeline.event(
    'eye',
    `looked ${looks.length} times in those ${seconds} s: the lock was ${worker.name}'s ${kept.length} times, ` +
      `with never less than ${(least / 1000).toFixed(1)} s to live; renewed ${renewed} times meanwhile`,
  );
  // On a busy machine a look may come late; half of them is still one every 100 ms.
  const isWatched = looks.length >= 50 && end - begin >= 4900;
  timeline.fact(
    'a CoffeeScript worker written for 0.4.0 blocks its event loop for 5 s and keeps its 2 s lock',
    isWatched && kept.length === looks.length && renewed >= 5,
    `there at ${kept.length} of ${looks.length} looks`,
  );
}

/** The holder is killed; its lock passes on when its ttl is over. */
async function playKilled({ timeline, observer }, worker, waiting) {
  await sleep(700); // long enough to see that it works
  const { value, left } = await observer.look();
  const killed = performance.now();
  const { signal } = await worker.child.kill('SIGKILL');
  timeline.mark(worker.name, 'killed');
  timeline.event(
    worker.name,
    `is killed (SIGKILL) while it holds the lock, which has ${(left / 1000).toFixed(1)} s to live`,
  );
  const heir = await Promise.race(waiting.map((one) => begins(one)));
  const took = performance.now() - killed;
  timeline.event('eye', `the lock went from ${worker.name} to ${heir.name} in ${(took / 1000).toFixed(2)} s`);
  timeline.fact(
    'a killed holder leaves its lock to one that waits',
    signal === 'SIGKILL' && isOf(worker, value) && took <= ttl + 1500,
    `${(took / 1000).toFixed(2)} s after the kill`,
  );
}

/** Redis restarts without its data, and the holder gets the loss. */
async function playForgotten({ timeline, redis, observer }, worker) {
  await sleep(700);
  if (!redis.isOurs) {
    timeline.event('redis', 'is yours, so it is not restarted; that scene is skipped');
    timeline.skip(lossClaim, 'REDIS_HOST or REDIS_PORT is set, and that redis is not ours to restart');
    worker.child.send('finish');
    await worker.said('released');
    return;
  }
  const { value } = await observer.look();
  const restarted = performance.now();
  timeline.mark('redis', 'down');
  timeline.event('redis', 'is killed and started again without its data');
  await redis.restart();
  timeline.mark('redis', 'back');
  timeline.event('redis', 'is back, empty');
  const loss = await worker.said('lost');
  const took = performance.now() - restarted;
  const isTold = loss.code === 'ERR_RESERVATION_LOST' && loss.held === false && loss.aborted === true;
  await worker.said('released'); // it stops by itself
  timeline.fact(
    lossClaim,
    isOf(worker, value) && isTold && worker.losses === 1,
    `${(took / 1000).toFixed(2)} s after redis went down`,
  );
}

/** Whether the key's value is this worker's. */
function isOf(worker, value) {
  return typeof value === 'string' && value.startsWith(`${worker.name}-${worker.pid}-`);
}

function tellEvent(worker, event, details) {
  const kind = worker.isCoffee ? 'CoffeeScript, written for 0.4.0, callbacks' : 'JS, promises';
  const lines = {
    'wants the lock': `(${kind}) asks for the lock`,
    'lock true': 'gets it',
    'lock false': 'is told that somebody holds it, and waits',
    'job begins': worker.isCoffee
      ? 'holds the lock, and blocks its event loop for 5 s'
      : 'holds the lock, works',
    'job ends': 'has done its work',
    released: 'has let go of the lock',
    lost: `is told: "${shorten(details.message)}"`,
  };
  return lines[event];
}

/** A lock's value without its token, which tells a reader nothing. */
function shorten(message = '') {
  return message.replace(/\b(ada|bob|cleo)-(\d+)-\w+/g, '$1-$2-…');
}

module.exports = { playStory };
