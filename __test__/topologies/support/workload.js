// What goes on while a topology changes: locks that are held, others that are fought for, and a watch over what must
// never be: two that believe to hold the same resource, a loss that nobody is told of, or that is told twice.
'use strict';

const assert = require('node:assert/strict');
const { setTimeout: sleep } = require('node:timers/promises');

/**
 * Takes `count` locks at once, on distinct resources, each by a reservation of its own: `makeReservation(index)`.
 * Resolves with a Holding once all are had. `resources`: their names, or `name(index)`; 'job-0' and so on if not given.
 * `exclusion`: a watch (see watchExclusion) that they are all under.
 */
async function hold(makeReservation, count, { resources = (index) => `job-${index}`, exclusion } = {}) {
  const nameOf = typeof resources === 'function' ? resources : (index) => resources[index];
  const holders = Array.from({ length: count }, (_, index) => ({
    resource: nameOf(index),
    reservation: makeReservation(index),
    losses: [], // what it was told: `{ at, error }`
    released: false,
  }));
  await Promise.all(holders.map((holder) => take(holder, exclusion)));
  return new Holding(holders);
}

async function take(holder, exclusion) {
  const { resource, reservation, losses } = holder;
  reservation.on('lost', (error) => losses.push({ at: performance.now(), error }));
  assert.equal(await reservation.lock(resource), true, `${resource} was free`);
  if (exclusion) exclusion.add(resource, reservation);
}

class Holding {
  constructor(holders) {
    this.holders = holders;
  }

  /** Those that were told that their lock is lost. */
  get lost() {
    return this.holders.filter(({ losses }) => losses.length > 0);
  }

  /** Those that hold at this very instant. */
  get held() {
    return this.holders.filter(({ resource, reservation }) => reservation.is_held(resource));
  }

  /** Whether each holds, was released, or was told of its loss; and nobody was told twice, or while it holds. */
  get isTold() {
    return this.holders.every(({ resource, reservation, losses, released }) => {
      const gone = !reservation.is_held(resource) && !released;
      return losses.length === (gone ? 1 : 0);
    });
  }

  assertNoneLost() {
    const lines = this.lost.map(({ resource, losses }) => `${resource}: ${losses[0].error.message}`);
    assert.deepEqual(lines, [], 'nothing was lost');
    assert.equal(this.held.length, this.holders.length, 'all are held');
  }

  /** Releases all that hold; resolves with how many were freed. A release that finds a loss has told of it. */
  async release() {
    const answers = await Promise.all(
      this.held.map(async (holder) => {
        const { reservation, resource, losses } = holder;
        try {
          const freed = await reservation.release(resource);
          holder.released = freed > 0;
          return freed;
        } catch (error) {
          if (error.code !== 'ERR_RESERVATION_LOST') throw error;
          losses.push({ at: performance.now(), error });
          return 0;
        }
      }),
    );
    return answers.reduce((sum, freed) => sum + freed, 0);
  }
}

/**
 * Looks, until the test ends, whether two reservations of this process say of the same resource, at the same instant,
 * that they hold it. `add(resource, reservation)` puts one under the watch, `overlaps` is what was seen:
 * `[{ at, resource, holders }]`, the first of each such time.
 */
function watchExclusion(t) {
  const exclusion = new Exclusion();
  t.after(() => exclusion.stop());
  return exclusion;
}

class Exclusion {
  constructor() {
    this.watched = new Map(); // resource -> the reservations that may hold it
    this.overlaps = [];
    this.looks = 0;
    this.open = new Set(); // resources that are held twice just now
    this.timer = setInterval(() => this.look(), 2);
    this.timer.unref();
  }

  add(resource, reservation) {
    if (!this.watched.has(resource)) this.watched.set(resource, new Set());
    this.watched.get(resource).add(reservation);
    this.look(); // where one has just acquired is where an overlap begins
  }

  look() {
    this.looks += 1;
    for (const [resource, reservations] of this.watched) {
      const holders = [...reservations].filter((reservation) => reservation.is_held(resource));
      if (holders.length < 2) this.open.delete(resource);
      else if (!this.open.has(resource)) {
        this.open.add(resource);
        this.overlaps.push({ at: performance.now(), resource, holders });
      }
    }
  }

  assertNever() {
    this.look();
    const twice = this.overlaps.map(({ resource, holders }) => `${resource} had ${holders.length} holders`);
    assert.deepEqual(twice, [], 'no resource had two holders at once');
  }

  stop() {
    clearInterval(this.timer);
  }
}

/**
 * `count` reservations that take turns on one resource until `stop()`: each waits for it, has it for a moment and lets
 * it go. `turns`: how many there were; `errors`: what calls ended with, after which that one goes on.
 */
function contend(t, makeReservation, resource, { count = 3, exclusion } = {}) {
  const contest = { turns: 0, errors: [], stop: null };
  const stopping = new AbortController();
  const contenders = Array.from({ length: count }, (_, index) => makeReservation(index));
  const compete = async (reservation) => {
    reservation.on('lost', (error) => contest.errors.push(error));
    if (exclusion) exclusion.add(resource, reservation);
    while (!stopping.signal.aborted) {
      try {
        await reservation.wait_until_lock(resource, { signal: stopping.signal });
        if (exclusion) exclusion.look();
        await sleep(1);
        if ((await reservation.release()) > 0) contest.turns += 1;
      } catch (error) {
        if (stopping.signal.aborted) return;
        contest.errors.push(error);
        await sleep(20); // an error that comes at once must not keep the process from all else
      }
    }
  };
  const all = contenders.map(compete);
  contest.stop = async () => {
    stopping.abort();
    await Promise.all(all);
    return contest;
  };
  t.after(() => contest.stop());
  return contest;
}

module.exports = { hold, watchExclusion, contend };
