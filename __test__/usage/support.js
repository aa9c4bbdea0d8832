// Scratch projects that use the package as users do: from the packed tarball, by its name, outside this repository.
'use strict';

const assert = require('node:assert/strict');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { packInto } = require('../../scripts/setup/pack');
const { startChild } = require('../support/child');
const { removeAtEnd } = require('../support/reaper');

let packed = null; // made once a process, copied for each project

/** A project with the package in its node_modules. `files`: name -> text. */
function makeProject(files, { manifest = {} } = {}) {
  const folder = makeFolder();
  if (packed === null) packed = packInto(makeFolder());
  fs.cpSync(packed, path.join(folder, 'node_modules', 'redis-reservation'), { recursive: true });
  writeFiles(folder, { 'package.json': JSON.stringify({ private: true, ...manifest }), ...files });
  return folder;
}

function makeFolder() {
  const folder = fs.mkdtempSync(path.join(fs.realpathSync(os.tmpdir()), 'reservation-usage-'));
  removeAtEnd(folder);
  return folder;
}

function writeFiles(folder, files) {
  for (const [name, text] of Object.entries(files)) {
    fs.mkdirSync(path.dirname(path.join(folder, name)), { recursive: true });
    fs.writeFileSync(path.join(folder, name), text);
  }
}

/** Code of a project that uses `ReserveResource`, however it was imported. Prints `held, freed 1`. */
const use = `
  const reservation = new ReserveResource('usage', process.env.REDIS_HOST, process.env.REDIS_PORT, 0, 10, false);
  reservation.lock('usage').then(async (had) => {
    const held = had && reservation.held;
    console.log((held ? 'held' : 'not held') + ', freed ' + (await reservation.release()));
  });
`;

/** Runs a Node program in the project to its end. Fails unless it prints `held, freed 1`, and nothing on stderr. */
async function holds(t, server, folder, args, { execArgv = [], env = {}, warnings = /^$/ } = {}) {
  const [file, ...rest] = args;
  const script = path.resolve(folder, file);
  const options = { cwd: folder, args: rest, execArgv, env: { ...server.environment, ...env } };
  const child = startChild(t, script, options);
  const ended = await child.exit({ timeout: 60000 });
  assert.deepEqual(ended, { code: 0, signal: null }, child.stderr);
  assert.match(child.stderr, warnings);
  assert.deepEqual(child.stdout.trim().split('\n'), ['held, freed 1']);
}

module.exports = { makeProject, makeFolder, writeFiles, use, holds };
