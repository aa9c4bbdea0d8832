// The load during a change of topology: held locks, contended locks, and a watch for violations: two holders of a resource, a
// loss that is never reported, or twice.
'use strict';

const assert = require('node:assert/strict');
const { setTimeout: sleep } = require('node:timers/promises');

/**
 * Acquires `count` locks at once, on distinct resources, each by a separate reservation: `makeReservation(index)`. Resolves with
 * a Holding once all are acquired. `resources`: their names, or `name(index)`; by default 'job-0' and so on. `exclusion`: a
 * watch (see watchExclusion) for all of them.
 */
async function hold(makeReservation, count, { resources = (index) => `job-${index}`, exclusion } = {}) {
  const nameOf = typeof resources === 'function' ? resources : (index) => resources[index];
  const holders = Array.from({ length: count }, (_, index) => ({
    resource: nameOf(index),
    reservation: makeReservation(index),
    losses: [], // its reported losses: `{ at, error }`
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

  /** Those that have got a loss. */
  get lost() {
    return this.holders.filter(({ losses }) => losses.length > 0);
  }

  /** Those that hold right now. */
  get held() {
    return this.holders.filter(({ resource, reservation }) => reservation.is_held(resource));
  }

  /** Each must hold, be released, or have got its loss; and none may get a loss twice, or while it holds. */
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

  /** Releases all that hold. Resolves with the number of freed keys. A release that finds a loss reports it. */
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
 * Watches, until the test ends, for two reservations of this process that claim to hold the same resource at the same moment.
 * `add(resource, reservation)` adds one to the watch. `overlaps`: `[{ at, resource, holders }]`, the start of each overlap.
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
    this.open = new Set(); // resources with two holders right now
    this.timer = setInterval(() => this.look(), 2);
    this.timer.unref();
  }

  add(resource, reservation) {
    if (!this.watched.has(resource)) this.watched.set(resource, new Set());
    this.watched.get(resource).add(reservation);
    this.look(); // an overlap begins right after an acquisition
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
 * `count` reservations that take turns on one resource until `stop()`: each waits for it, holds it for a moment and releases it.
 * `turns`: the number of turns; `errors`: those of failed calls, after which a reservation goes on.
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
        await sleep(20); // an immediate error must not block the process
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
