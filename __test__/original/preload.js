// Loaded before the original's own test file: lets a test written for Node 0.10 run today, and
// gives it this package where it asks for the code it was written for.
'use strict';

const { Domain } = require('node:domain');
const Module = require('node:module');
const path = require('node:path');

const original = path.dirname(require.resolve('original/package.json'));
const originalCode = path.join(original, 'lib', 'index');
/** What is tested in its place: the repository's root, or what the harness is tried out on. */
const subject = process.env.RESERVATION_SUBJECT || path.resolve(__dirname, '..', '..');

// Taken out of Node after 0.12; all that the test wants of it is that the domain is left.
Domain.prototype.dispose ??= function dispose() {
  this.exit();
};

const resolve = Module._resolveFilename;
Module._resolveFilename = function resolveFilename(request, ...rest) {
  return resolve.call(this, path.resolve(request) === originalCode ? subject : request, ...rest);
};
