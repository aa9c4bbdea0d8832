// `npm run test:threads`: every interleaving of two threads at what they share (src/tests/model.rs), by loom.
'use strict';

const path = require('node:path');
const { setup } = require('./setup');
const { requireCargo } = require('./setup/native');
const { root, run } = require('./setup/run');

const environment = setup();
requireCargo();
const env = {
  ...environment,
  // Apart from the other builds, so that none of them is undone.
  CARGO_TARGET_DIR: path.join(root, 'target', 'model'),
  RUSTFLAGS: '--cfg model',
};
const words = ['test', '--profile', 'fast', '--lib', 'tests::model'];
process.exitCode = run('cargo', words, { env }) ? 0 : 1;
