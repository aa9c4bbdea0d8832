// The picture of the demo is drawn from a recording: who held when, and what redis showed.
'use strict';

const assert = require('node:assert/strict');
const fs = require('node:fs');
const path = require('node:path');
const { test } = require('node:test');
const { draw } = require('../scripts/demo/picture');
const { root } = require('./support/child');

/** Ten seconds: ada blocks for five, cleo is killed, bob gets a loss. */
const recording = {
  pids: { ada: 1, bob: 2, cleo: 3 },
  marks: [
    ...['ada', 'bob', 'cleo'].map((who) => ({ at: 1000, who, what: 'wants the lock' })),
    { at: 1000, who: 'ada', what: 'blocks' },
    { at: 6000, who: 'ada', what: 'released' },
    { at: 6000, who: 'cleo', what: 'job begins' },
    { at: 7000, who: 'cleo', what: 'killed' },
    { at: 9000, who: 'bob', what: 'job begins' },
    { at: 10000, who: 'redis', what: 'down' },
    { at: 10100, who: 'redis', what: 'back' },
    { at: 11000, who: 'bob', what: 'lost' },
  ],
  looks: [
    { at: 1500, value: 'ada-1-token', left: 2000 },
    { at: 2000, value: 'ada-1-token', left: 1500 },
    { at: 6050, value: null, left: -2 },
    { at: 6500, value: 'cleo-3-token', left: 2000 },
    { at: 9500, value: 'bob-2-token', left: 1000 },
  ],
};

test('each process has a bar in its colour, as long as it held', () => {
  const svg = draw(recording);
  const bars = Array.from(
    svg.matchAll(/<rect class="bar (\w+)" x="([\d.]+)" y="[\d.]+" width="([\d.]+)"/g),
    ([, who, x, width]) => ({ who, x: Number(x), width: Number(width) }),
  );
  const [ada, bob, cleo] = bars;
  assert.deepEqual(
    bars.map(({ who }) => who),
    ['ada', 'bob', 'cleo'],
  );
  const near = (one, other) => Math.abs(one - other) < 1;
  assert.ok(near(ada.width, 5 * cleo.width) && near(bob.width, 2 * cleo.width), svg);
  assert.ok(near(cleo.x, ada.x + ada.width) && near(bob.x, cleo.x + 3 * cleo.width), svg);
  const lives = Array.from(svg.matchAll(/<path class="life (\w+)"/g), ([, who]) => who);
  assert.deepEqual(lives, ['ada', 'cleo', 'bob']);
  assert.match(svg, /killed \(SIGKILL\)[^]*told: lost|told: lost[^]*killed \(SIGKILL\)/);
  assert.doesNotMatch(svg, /NaN|undefined|token/);
});

test('docs/demo.svg was drawn by this script', () => {
  const kept = fs.readFileSync(path.join(root, 'docs', 'demo.svg'), 'utf8');
  const frame = (svg) => svg.slice(0, svg.indexOf('<text')).replace(/\s+/g, ' ');
  assert.equal(frame(kept), frame(draw(recording)));
  assert.match(kept, /prefers-color-scheme:dark/);
});
