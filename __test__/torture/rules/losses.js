// Losses: each is reported once and in time, never without a reason, and never besides a release.
'use strict';

const { longestWell, robbed, running, worker } = require('../model');
const { about, ms } = require('./exclusion');

function losses(model) {
  const found = [];
  const report = (hold, at, message) =>
    found.push({ rule: 'losses', message: `${hold.op}: ${message}`, at, ...about(hold) });
  for (const hold of model.holds) {
    const { told, outcomes } = hold;
    const releases = outcomes.filter(({ what }) => what === 'released');
    if (told.length > 1)
      report(hold, told[1].t, `its loss was reported ${told.length} times (${told.map(({ by }) => by)})`);
    if (releases.length > 1) report(hold, releases[1].t, 'it was released twice');
    if (told.length > 0 && releases.length > 0)
      report(hold, told[0].t, 'it was released, and its loss was reported');
    if (vanished(hold)) report(hold, outcomes[0].t, 'a release answered 0, and no loss was reported');
    const late = lateness(model, hold);
    if (late !== null && late.ms > model.limits.late) {
      const what = late.told ? 'reported' : 'not reported';
      report(
        hold,
        late.at,
        `its lease ended at ${ms(model, late.deadline)}, which was ${what} ${Math.round(late.ms)} ms later`,
      );
    }
    if (told.length > 0 && told[0].t < hold.from)
      report(hold, hold.from, 'its loss was reported before its call was answered');
    for (const { t } of told) {
      if (isNeedless(model, hold, t)) report(hold, t, 'reported as lost, without a fault');
    }
  }
  for (const { t, w, key, val } of model.strangers) {
    found.push({
      rule: 'losses',
      message: `${w} got a loss of ${val}, which it never held`,
      at: t,
      key,
      workers: [w],
    });
  }
  return found;
}

function vanished({ releases, outcomes, told }) {
  if (releases.length === 0 || told.length > 0) return false;
  return releases.every(({ answer }) => answer) && outcomes.every(({ what }) => what === 'nothing');
}

/**
 * How long after the end of its lease the loss of a hold was reported (or how long it was unreported at the end of the record),
 * in ms in which its process could run; null if there is no loss. The end is that on redis's clock. The holder's own deadline is
 * earlier, by the time that the last renewal took to arrive.
 */
function lateness(model, hold) {
  const [tenure] = hold.tenures;
  if (!tenure || tenure.deadline === Infinity) return null;
  const { deadline } = tenure;
  const told = hold.told[0];
  // A caller of release learns of the loss by its answer.
  if (hold.releases.some(({ at }) => at < deadline) || (told && told.by !== 'event' && told.by !== 'throw'))
    return null;
  if (['freed', 'handed over'].includes(tenure.end) && !told) return null;
  const end = told ? told.t : Math.min(model.end, worker(model, hold.w).gone);
  const released = Math.min(...hold.releases.map(({ at }) => at));
  if (!told && released < end) return null;
  if (end <= deadline) return told ? { ms: 0, deadline, at: end, told: true } : null;
  return { ms: running(model, hold.w, [deadline, end]), deadline, at: end, told: Boolean(told) };
}

/** A renewed lease is not lost in a time without faults. */
function isNeedless(model, hold, t) {
  if (!hold.renews) return false;
  const from = t - hold.ttl - model.limits.recovery(hold.call.patience);
  if (robbed(model, hold.key, [hold.call.at, t])) return false;
  const well = longestWell(model, hold.w, [from, t], 0);
  return Boolean(well) && well[0] === from && well[1] >= t;
}

module.exports = { losses, lateness };
