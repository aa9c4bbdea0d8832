// Loaded before the test file of 0.4.0: lets a test for Node 0.10 run on today's Node, and gives it this package instead of
// the code of 0.4.0.
'use strict';

const { Domain } = require('node:domain');
const Module = require('node:module');
const path = require('node:path');

const original = path.dirname(require.resolve('original/package.json'));
const originalCode = path.join(original, 'lib', 'index');
/** The package to test: the root of the repository, or another one to try out the harness. */
const subject = process.env.RESERVATION_SUBJECT || path.resolve(__dirname, '..', '..');

// Removed from Node after 0.12. The test only needs it to leave the domain.
Domain.prototype.dispose ??= function dispose() {
  this.exit();
};

const resolve = Module._resolveFilename;
Module._resolveFilename = function resolveFilename(request, ...rest) {
  return resolve.call(this, path.resolve(request) === originalCode ? subject : request, ...rest);
};
