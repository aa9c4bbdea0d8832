// The rooms of src/ and lib/ stand one above the other: each uses those below it and none above. Files stay small enough
// to be read at once, and the maps name every one of them.
'use strict';

const assert = require('node:assert/strict');
const path = require('node:path');
const { test } = require('node:test');
const { filesBelow, read } = require('./support/sources');

// From the top down.
const ROOMS = ['addon', 'dispatcher', 'lock', 'connection', 'protocol', 'model', 'runtime', 'time'];

const LONGEST_FILE = 400;

const rust = filesBelow('src').filter((file) => file.endsWith('.rs') && !file.startsWith('src/tests/'));
// Test builds only, and outside of the rooms: it may use all of them, and none of them it.
const SIMULATION = 'simulation';
const inRooms = rust.filter((file) => file !== 'src/lib.rs' && !file.startsWith(`src/${SIMULATION}/`));
const javascript = filesBelow('lib');

const roomOf = (file) => file.split('/')[1].replace(/\.rs$/, '');

/** The code alone: without comments, and without the tests at its end, which may use what they like. */
const codeOf = (file) =>
  read(file)
    .replace(/#\[cfg\(test\)\]\nmod tests \{[^]*/, '')
    .replace(/\/\/.*/g, '');

test('the rooms are those that src/lib.rs names, from the top down', () => {
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

test('napi stays in the addon', () => {
  const others = inRooms.filter(
    (file) => roomOf(file) !== 'addon' && /\bnapi(?:_derive)?::/.test(codeOf(file)),
  );
  assert.deepEqual(others, []);
});

test('a file of src/ or lib/ says first what it is responsible for, and can be read at once', () => {
  const all = [...rust, ...javascript, 'index.js'];
  const silent = all.filter((file) => !/^\/\/[!]? \S/.test(read(file)));
  assert.deepEqual(silent, []);
  const long = all
    .map((file) => [read(file).split('\n').length - 1, file])
    .filter(([lines]) => lines > LONGEST_FILE);
  assert.deepEqual(long, []);
});

test('the map names every file of src/ and lib/, and none that is not there', () => {
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
