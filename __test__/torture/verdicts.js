// What the checker's own tests share: one test for each story, with the rules that the story must keep or break.
'use strict';

const assert = require('node:assert/strict');
const { test } = require('node:test');
const { check } = require('./checker');
const { Story } = require('./story');

const story = () => new Story();

/** The checker must find nothing wrong in this story. */
function keeps(name, { history }) {
  test(`nothing wrong: ${name}`, () => {
    assert.deepEqual(check(history).violations, []);
  });
}

/** The checker must find these rules broken, and no others. */
function breaks(rules, name, { history }) {
  test(`${rules}: ${name}`, () => {
    const broken = new Set(check(history).violations.map(({ rule }) => rule));
    assert.deepEqual([...broken].sort(), [].concat(rules).sort());
  });
}

module.exports = { breaks, keeps, story };
