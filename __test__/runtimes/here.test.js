// Runs the probe of the runtime matrix on this Node. The whole matrix (`npm run test:runtimes`) takes minutes and downloads
// ten runtimes.
'use strict';

const assert = require('node:assert/strict');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { test } = require('node:test');
const { packInto } = require('../../scripts/setup/pack');
const { layProbe } = require('../../scripts/runtimes/lay');
const { probe } = require('../../scripts/runtimes/probe');
const { table } = require('../../scripts/runtimes/table');
const { removeAtEnd } = require('../support/reaper');
const { startServer } = require('../support/server');

test('every check of the matrix succeeds on this Node', async (t) => {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'reservation-runtime-'));
  removeAtEnd(folder);
  packInto(folder);
  layProbe(folder);
  const server = await startServer(t);
  const results = await probe({ run: [] }, process.execPath, folder, server.environment);
  assert.deepEqual(
    results.filter(({ ok }) => !ok),
    [],
  );
  assert.ok(results.length >= 20, `${results.length} checks`);
});

test('the table names each failed check and what was seen', () => {
  const text = table([
    { name: 'node-20', version: '20.1.0', results: [{ check: 'load', ok: true }] },
    {
      name: 'bun',
      version: '1.2.3',
      results: [
        { check: 'load', ok: true },
        { check: 'wait', ok: false, seen: 'nothing' },
      ],
    },
  ]);
  assert.deepEqual(text.split('\n'), [
    '| check | node 20.1.0 | bun 1.2.3 |',
    '| --- | --- | --- |',
    '| load | yes | yes |',
    '| wait |  | **no** |',
    '',
    'bun, wait FAILS: nothing',
  ]);
});
