// Lost updates of what the lock guards. section.js explains which writes must be right, and which need not be.
'use strict';

const { robbed } = require('../model');
const { about } = require('./exclusion');

function updates(model) {
  const found = [];
  for (const section of model.sections.values()) {
    const { written, mode, key } = section;
    if (!written) continue;
    const wasRobbed = robbed(model, key, [callOf(model, section), written.t]);
    const wrong = mode === 'fenced' ? fenced(section, wasRobbed) : plain(section, model, wasRobbed);
    if (!wrong) continue;
    const other = model.sections.get(writerOf(written.old));
    const both = [section, ...(other ? [other] : [])];
    found.push({
      rule: 'lost update',
      message: `${section.section} of ${key}: ${wrong}`,
      at: written.t,
      ...about(...both),
    });
  }
  return found;
}

function fenced({ written, read }, wasRobbed) {
  if (written.done && written.old !== read.read) {
    return `wrote ${written.next} over ${written.old} after reading ${read.read}, and the key was its own in that instant`;
  }
  if (!written.done && written.held && !wasRobbed) {
    return `held before and after, but the key held ${written.holder}`;
  }
  return null;
}

function plain({ written, read }, model, wasRobbed) {
  if (written.old === read.read || !written.held || wasRobbed) return null;
  const other = model.sections.get(writerOf(written.old));
  // A write after the end of its writer's lease, or after a theft that its writer cannot know of yet: no lock can prevent either.
  if (other && !(other.written && other.written.held)) return null;
  if (other && robbed(model, other.key, [callOf(model, other), other.written.t])) return null;
  return `wrote ${written.next} over ${written.old} after reading ${read.read}, held before and after`;
}

/** When the call was made that acquired the lock of this section. */
function callOf(model, { op }) {
  const call = model.calls.get(op);
  return call ? call.at : 0;
}

/** The section that wrote this value of a counter. */
function writerOf(value) {
  return value ? String(value).slice(String(value).indexOf(':') + 1) : null;
}

module.exports = { updates };
