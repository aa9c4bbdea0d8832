// The layers of src/: each room uses those below it and none above. Files of src/ and lib/ stay short, and
// docs/architecture.md lists every one of them.
'use strict';

const assert = require('node:assert/strict');
const path = require('node:path');
const { test } = require('node:test');
const { filesBelow, read } = require('./support/sources');

// From the top down.
const ROOMS = ['addon', 'dispatcher', 'lock', 'connection', 'protocol', 'model', 'runtime', 'time'];

const LONGEST_FILE = 400;

const rust = filesBelow('src').filter((file) => file.endsWith('.rs') && !file.startsWith('src/tests/'));
// Only in test builds, and outside of the layers: it may use every room, and no room may use it.
const SIMULATION = 'simulation';
const inRooms = rust.filter((file) => file !== 'src/lib.rs' && !file.startsWith(`src/${SIMULATION}/`));
const javascript = filesBelow('lib');

const roomOf = (file) => file.split('/')[1].replace(/\.rs$/, '');

/** The code without comments and without the tests at its end, which may use every room. */
const codeOf = (file) =>
  read(file)
    .replace(/#\[cfg\(test\)\]\nmod tests \{[^]*/, '')
    .replace(/\/\/.*/g, '');

test('src/lib.rs lists the rooms from the top down', () => {
  assert.deepEqual([...new Set(inRooms.map(roomOf))].sort(), [...ROOMS].sort());
  const named = Array.from(read('src/lib.rs').matchAll(/^\/\/! - \[?`(\w+)`/gm), ([, room]) => room);
  assert.deepEqual(named, ROOMS);
});

test('no room of src/ uses one above it', () => {
  const upwards = inRooms.flatMap((file) => {
    const above = [SIMULATION, ...ROOMS.slice(0, ROOMS.indexOf(roomOf(file)))];
    return Array.from(codeOf(file).matchAll(/\bcrate::(?:\{[^}]*\}|\w+)/g), ([name]) => name)
      .filter((name) => above.some((room) => new RegExp(`\\b${room}\\b`).test(name)))
      .map((name) => `${file} uses ${name}`);
  });
  assert.deepEqual(upwards, []);
});

test('only the addon uses napi', () => {
  const others = inRooms.filter(
    (file) => roomOf(file) !== 'addon' && /\bnapi(?:_derive)?::/.test(codeOf(file)),
  );
  assert.deepEqual(others, []);
});

test('each file of src/ and lib/ begins with what it is responsible for, and has at most 400 lines', () => {
  const all = [...rust, ...javascript, 'index.js'];
  const silent = all.filter((file) => !/^\/\/[!]? \S/.test(read(file)));
  assert.deepEqual(silent, []);
  const long = all
    .map((file) => [read(file).split('\n').length - 1, file])
    .filter(([lines]) => lines > LONGEST_FILE);
  assert.deepEqual(long, []);
});

test('docs/architecture.md lists every file of src/ and lib/, and no other', () => {
  const map = read('docs/architecture.md');
  const all = [...rust, ...javascript].filter((file) => path.basename(file) !== 'mod.rs');
  assert.deepEqual(
    all.filter((file) => !map.includes(`\`${file}\``)),
    [],
  );
  const named = new Set(map.match(/\b(?:src|lib)\/[\w/]+\.(?:rs|js)\b/g));
  assert.deepEqual(
    [...named].filter((file) => !all.includes(file) && !filesBelow('src').includes(file)),
    [],
  );
});
