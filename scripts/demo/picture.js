// `node scripts/demo/picture.js`: plays the demo, and draws what happened as docs/demo.svg. With the path of a recording
// (.json), it draws that instead; with --keep, it leaves a recording in .cache/.
'use strict';

const fs = require('node:fs');
const path = require('node:path');
const { setup } = require('../setup');
const { root } = require('../setup/run');

const order = ['ada', 'bob', 'cleo'];
const width = 960;
const left = 64;
const right = width - 20;
const rowHeight = 46;
const top = 62;
const lifeHeight = 70;
const lifeTop = top + order.length * rowHeight + 52;
const lifeBottom = lifeTop + lifeHeight;
const height = lifeBottom + 44;
const ttl = 2000;

/** The SVG of a recording: `{ marks: [{ at, who, what }], looks: [{ at, value, left }], pids }`. */
function draw({ marks, looks, pids }) {
  const start = marks.find(({ what }) => what === 'wants the lock').at;
  const end = Math.max(...marks.map(({ at }) => at));
  const span = Math.ceil((end - start) / 500) * 500;
  const x = (at) => round(left + ((at - start) / span) * (right - left));
  const stage = { marks, x, start, end, span };
  const shown = looks.filter(({ at }) => at >= start && at <= end);
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" role="img" aria-labelledby="title">`,
    '<title id="title">A run of the demo: who holds the lock, and how long its key has to live</title>',
    `<style>${style}</style>`,
    `<rect class="page" width="${width}" height="${height}" rx="8"/>`,
    text(left - 44, 26, 'Three processes, one lock that lives 2 s and is renewed every 0.5 s', 'head'),
    ...order.flatMap((who, row) => drawWorker(stage, who, top + row * rowHeight)),
    text(left - 44, lifeTop - 14, 'The key in redis, as another client sees it: time to live', 'head'),
    ...drawLife(stage, shown, pids),
    ...drawSeconds(stage),
    '</svg>',
    '',
  ].join('\n');
}

/** One process: a thin line while it waits, a bar while it holds, and what happened to it. */
function drawWorker({ marks, x, end }, who, y) {
  const own = marks.filter((mark) => mark.who === who);
  const at = (what) => (own.find((mark) => mark.what === what) || {}).at;
  const begins = at('job begins') || at('blocks');
  const ends = at('killed') || at('lost') || at('released') || end;
  const middle = y + 12;
  const wants = x(at('wants the lock'));
  const parts = [
    text(left - 10, middle + 5, who, `name ${who}`, 'end'),
    `<line class="wait" x1="${wants}" y1="${middle}" x2="${x(begins)}" y2="${middle}"/>`,
    `<rect class="bar ${who}" x="${x(begins)}" y="${y}" width="${round(x(ends) - x(begins))}" height="24" rx="4"/>`,
  ];
  if (x(begins) - wants > 60) parts.push(text(wants + 8, middle - 6, 'waits', 'note'));
  const label = x(begins) + 8;
  if (at('blocks')) parts.push(text(label, middle + 5, 'holds it, event loop blocked for 5 s', 'on'));
  else parts.push(text(label, middle + 5, 'holds it', 'on'));
  const fate = { killed: 'killed (SIGKILL)', lost: 'told: lost' };
  for (const [what, said] of Object.entries(fate)) {
    if (!at(what)) continue;
    const there = x(at(what));
    const isNearEnd = there > right - 130;
    parts.push(`<path class="end" d="M${there - 5} ${middle - 5}l10 10m0 -10l-10 10"/>`);
    parts.push(
      isNearEnd ? text(there, y + 39, said, 'note', 'end') : text(there + 11, middle + 5, said, 'note'),
    );
  }
  return parts;
}

/** What another client saw of the key: its ttl, in the colour of its holder. */
function drawLife({ marks, x }, looks, pids) {
  const y = (life) => round(lifeBottom - (Math.max(0, Math.min(life, ttl)) / ttl) * lifeHeight);
  const parts = [];
  for (const [seconds, life] of [
    ['2 s', 2000],
    ['1 s', 1000],
    ['0', 0],
  ]) {
    parts.push(`<line class="grid" x1="${left}" y1="${y(life)}" x2="${right}" y2="${y(life)}"/>`);
    parts.push(text(left - 10, y(life) + 4, seconds, 'note', 'end'));
  }
  for (const { who, points } of tenures(looks, pids)) {
    const line = points.map(({ at, left: life }) => `${x(at)} ${y(life)}`).join('L');
    const [first, last] = [x(points[0].at), x(points[points.length - 1].at)];
    parts.push(`<path class="life ${who}" d="M${first} ${lifeBottom}L${line}L${last} ${lifeBottom}Z"/>`);
  }
  const [down, back] = ['down', 'back'].map((what) => marks.find((mark) => mark.what === what));
  if (down && back) {
    parts.push(
      `<rect class="down" x="${x(down.at)}" y="${lifeTop}" width="${Math.max(2, round(x(back.at) - x(down.at)))}" height="${lifeHeight}"/>`,
    );
    parts.push(text(x(back.at), lifeTop - 6, 'redis restarts, empty', 'note', 'end'));
  }
  return parts;
}

/** The looks, grouped by holder: one group for each time that a process held the key. */
function tenures(looks, pids) {
  const found = [];
  let last;
  for (const look of looks) {
    const who = order.find((name) => look.value && look.value.startsWith(`${name}-${pids[name]}-`));
    if (who && (!last || last.who !== who)) found.push((last = { who, points: [] }));
    if (who) last.points.push(look);
    else last = undefined;
  }
  return found;
}

function drawSeconds({ x, start, span }) {
  const parts = [];
  for (let second = 0; second * 1000 <= span; second += 1) {
    const at = x(start + second * 1000);
    parts.push(`<line class="tick" x1="${at}" y1="${lifeBottom}" x2="${at}" y2="${lifeBottom + 5}"/>`);
    parts.push(text(at, lifeBottom + 20, `${second}${second === 0 ? ' s' : ''}`, 'note', 'middle'));
  }
  return parts;
}

function text(x, y, words, classes, anchor) {
  const where = anchor ? ` text-anchor="${anchor}"` : '';
  return `<text class="${classes}" x="${round(x)}" y="${round(y)}"${where}>${words}</text>`;
}

function round(number) {
  return Math.round(number * 10) / 10;
}

const style = `
text{font:13px system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif;fill:#1f2328}
.head{font-weight:600}.note{font-size:12px;fill:#59636e}.on{fill:#fff;font-weight:600}.name{font-weight:600}
.page{fill:#fff}.wait,.grid,.tick{stroke:#d1d9e0;stroke-width:1}.wait{stroke-width:2;stroke-dasharray:3 4;stroke:#818b98}
.bar.ada,.life.ada{fill:#1a7f37}.bar.bob,.life.bob{fill:#0969da}.bar.cleo,.life.cleo{fill:#8250df}
.name.ada{fill:#1a7f37}.name.bob{fill:#0969da}.name.cleo{fill:#8250df}
.life{fill-opacity:.3}.end{stroke:#d1242f;stroke-width:3;fill:none}.down{fill:#d1242f;fill-opacity:.35}
@media (prefers-color-scheme:dark){
text{fill:#f0f6fc}.note{fill:#9198a1}.on{fill:#fff}.page{fill:#0d1117}.wait,.grid,.tick{stroke:#3d444d}.wait{stroke:#9198a1}
.bar.ada{fill:#238636}.bar.bob{fill:#1f6feb}.bar.cleo{fill:#8957e5}
.life.ada,.name.ada{fill:#3fb950}.life.bob,.name.bob{fill:#4493f8}.life.cleo,.name.cleo{fill:#ab7df8}
.end{stroke:#f85149}.down{fill:#f85149}}
`.trim();

async function main([given]) {
  const file = path.join(root, 'docs', 'demo.svg');
  let recording = {};
  if (given && given.endsWith('.json')) {
    recording = JSON.parse(fs.readFileSync(given, 'utf8'));
  } else {
    Object.assign(process.env, setup());
    // Loaded only now, as in ../demo.js.
    if (!(await require('./story').playStory(recording)))
      throw new Error('not all that the demo claims came true');
    const kept = path.join(root, '.cache', 'demo.json');
    if (given === '--keep') fs.writeFileSync(kept, JSON.stringify(recording));
  }
  fs.writeFileSync(file, draw(recording));
  process.stdout.write(`\nDrawn as ${path.relative(root, file)}\n`);
}

module.exports = { draw };

if (require.main === module) {
  main(process.argv.slice(2)).then(
    () => process.exit(0),
    (error) => {
      process.stderr.write(`${error.stack}\n`);
      process.exit(1);
    },
  );
}
