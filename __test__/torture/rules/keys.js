// Keys: a key that nobody holds does not stay, and a free key does not stay free while a waiter waits for it.
'use strict';

const { longestWell } = require('../model');
const { touches } = require('../spans');
const { about, ms } = require('./exclusion');

/**
 * A key whose call failed, or whose loss was reported, is deleted as soon as redis is reachable, and lapses with its ttl. (A call
 * that timed out may have set it. A SET may even run after the failure was reported.)
 */
function leftovers(model) {
  const found = [];
  const holdOf = new Map(model.holds.map((hold) => [hold.val, hold]));
  for (const tenure of model.tenures) {
    const call = model.calls.get(tenure.op);
    if (!call) continue;
    const hold = holdOf.get(tenure.val);
    const since = hold ? endOfHold(hold) : endOfCall(call);
    if (!since) continue;
    const from = Math.max(tenure.from, since.t);
    if (tenure.until <= from) continue;
    const until = Math.min(tenure.until, model.end);
    const report = (message) =>
      found.push({
        rule: 'leftover',
        message: `${tenure.op}: ${since.what}, and its key ${message}`,
        at: until,
        ...about(call),
      });
    const { clock, late, recovery } = model.limits;
    const well = longestWell(model, call.w, [from, until], recovery(call.patience));
    const troubled =
      !longestWell(model, call.w, [from, until], 0) || isTroubled(model, call.w, [since.t, until]);
    if (since.atOnce && tenure.until > since.t + clock) {
      report(`was there until ${ms(model, tenure.until)}`);
    } else if (!since.lapses && well && well[1] - well[0] > late) {
      report(`stayed until ${ms(model, tenure.until)}, with nothing wrong since ${ms(model, well[0])}`);
    } else if (until - from > call.ttl + late && !troubled) {
      report(`outlived its ttl of ${call.ttl} ms: it stayed for ${Math.round(until - from)}`);
    }
  }
  return found;
}

/** When and how a caller learned of the end of its lock; null while it holds. */
function endOfHold({ told, outcomes }) {
  const released = outcomes.find(({ what }) => what === 'released');
  if (released) return { t: released.t, what: 'it was released', atOnce: true };
  if (told.length > 0) return { t: told[0].t, what: 'its loss was reported' };
  const failed = outcomes.filter(({ what }) => what === 'failed').pop();
  // Then no call deletes it, but none renews it either.
  return failed ? { t: failed.t, what: 'its release failed', lapses: true } : null;
}

function endOfCall({ answer, got }) {
  if (!answer) return null;
  const what = got
    ? 'its call has got another value'
    : answer.error
      ? 'its call failed'
      : 'its call answered that it is held';
  return { t: answer.t, what };
}

function isTroubled(model, name, span) {
  const well = longestWell(model, name, span, 0);
  return !well || well[0] > span[0] || well[1] < span[1];
}

/** While redis is reachable, a key with a waiter is free for at most the time of a poll. */
function forgotten(model) {
  const found = [];
  const { poll, late } = model.limits;
  const waits = [...model.calls.values()].filter(({ kind }) => kind === 'wait');
  for (const [key, { tenures, unsure }] of model.timelines) {
    for (const gap of gapsBetween(tenures, model).filter(([from, to]) => to - from > poll)) {
      if (unsure.some((span) => touches(span, gap))) continue;
      for (const call of waits) {
        if (call.key !== key) continue;
        const well = longestWell(model, call.w, spanOfWait(call, gap), model.limits.recovery(call.patience));
        if (!well || well[1] - well[0] <= poll + late) continue;
        const message = `${call.op} waits for ${key}, which was free from ${ms(model, gap[0])} to ${ms(model, gap[1])}`;
        found.push({ rule: 'forgotten waiter', message, at: well[1], ...about(call) });
        break;
      }
    }
  }
  return found;
}

/** The part of a gap in which a call waits. Its timeout ends the wait, also where a blocked event loop reads that later. */
function spanOfWait({ at, timeout, answer, abortedAt }, [from, to]) {
  const ends = [answer ? answer.t : Infinity, abortedAt ?? Infinity, at + (timeout ?? Infinity)];
  return [Math.max(at, from), Math.min(to, ...ends)];
}

function gapsBetween(tenures, model) {
  const gaps = [];
  let from = model.start;
  for (const tenure of tenures) {
    gaps.push([from, tenure.from]);
    from = tenure.until;
  }
  gaps.push([from, model.end]);
  return gaps;
}

module.exports = { leftovers, forgotten, gapsBetween };
