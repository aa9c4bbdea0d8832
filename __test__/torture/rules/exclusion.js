// Exclusion: no lock has two holders, and `held` is never true after redis has given the key to another.
'use strict';

const { robbed } = require('../model');
const { robberies } = require('../tenures');

/**
 * A hold lasts from its answer to the first of: the call of its release, the report of its loss, the last look at which it was
 * certain. (A look that finds it certain proves that the lease has not ended before: an ended lease never revives. An answer
 * that is delivered after its lease, for example to a blocked event loop, begins no hold: `held` is false.) After a theft (a
 * deletion, a wiped server), another may acquire the key before its holder can know.
 */
function overlaps(model) {
  const found = [];
  const open = new Map(); // key -> the holds that may still last
  const certain = model.holds.filter(({ lastCertain }) => lastCertain !== null);
  for (const hold of certain.sort((one, other) => one.from - other.from)) {
    const others = (open.get(hold.key) || []).filter((other) => endOf(other) > hold.from);
    for (const first of others) {
      if (robbed(model, hold.key, [first.call.at, hold.from])) continue;
      found.push({
        rule: 'two at once',
        message: `${first.op} held ${hold.key} until ${ms(model, endOf(first))} while ${hold.op} got it at ${ms(model, hold.from)}`,
        at: hold.from,
        ...about(first, hold),
      });
    }
    open.set(hold.key, [...others, hold]);
  }
  return found;
}

function endOf({ from, releases, told, lastCertain }) {
  return Math.max(from, Math.min(lastCertain, ...releases.map(({ at }) => at), ...told.map(({ t }) => t)));
}

/** Whenever `held` was true, the key had the holder's value. */
function certainty(model) {
  const found = [];
  const { clock } = model.limits;
  for (const hold of model.holds) {
    const [tenure] = hold.tenures;
    const released = Math.min(...hold.releases.map(({ at }) => at));
    const told = Math.min(...hold.told.map(({ t }) => t));
    for (const { t, held } of hold.samples) {
      if (!held) continue;
      const late = tenure && t > tenure.until + clock;
      // After a theft, the holder cannot know before its next renewal. But it knows its deadline.
      const excused = late && robberies.includes(tenure.end) && t <= tenure.deadline + clock;
      const wrong =
        (t > released && 'after its release was called') ||
        (t > told && 'after the report of its loss') ||
        (late && !excused && `${(t - tenure.until).toFixed(1)} ms after the key was ${tenure.end}`);
      if (!wrong) continue;
      found.push({ rule: 'held too long', message: `${hold.op} was "held" ${wrong}`, at: t, ...about(hold) });
      break;
    }
  }
  return found;
}

/** The answer of a call matches what redis has done. */
function truth(model) {
  const found = [];
  const { clock } = model.limits;
  for (const hold of model.holds) {
    const { call, from, tenures } = hold;
    const window = [call.at - clock, from + clock];
    const crashed = model.faults.some(
      ({ name, to, from: begun }) =>
        ['crash', 'wipe'].includes(name) && to >= window[0] && begun <= window[1] + 100,
    );
    const sure = tenures.filter(({ unsure }) => !unsure);
    let wrong = null;
    if (tenures.length === 0 && !crashed) wrong = 'but redis never had its value';
    else if (sure.length > 1) wrong = 'and its value was set again after its end';
    else if (sure.length === 1 && (sure[0].from < window[0] || sure[0].from > window[1])) {
      wrong = `but redis had its value from ${ms(model, sure[0].from)} on`;
    }
    if (wrong)
      found.push({
        rule: 'untrue answer',
        message: `${hold.op} acquired ${hold.key} by its answer, ${wrong}`,
        at: from,
        ...about(hold),
      });
  }
  for (const call of model.calls.values()) {
    if (call.kind !== 'lock' || !call.answer || call.answer.error || call.answer.value !== false) continue;
    const window = [call.at - clock, call.answer.t + clock];
    const { tenures = [], unsure = [] } = model.timelines.get(call.key) || {};
    const spans = [...tenures.map(({ from, until }) => [from, until]), ...unsure];
    if (spans.some(([from, until]) => from <= window[1] && until >= window[0])) continue;
    found.push({
      rule: 'untrue answer',
      message: `${call.op} answered that ${call.key} is held, and it was free`,
      at: call.answer.t,
      ...about(call),
    });
  }
  return found;
}

function about(...holds) {
  return { key: holds[0].key, ops: holds.map(({ op }) => op), workers: holds.map(({ w }) => w) };
}

function ms(model, t) {
  return `${((t - model.start) / 1000).toFixed(4)} s`;
}

module.exports = { overlaps, certainty, truth, about, ms };
