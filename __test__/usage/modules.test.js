// CommonJS, ESM and CoffeeScript: every way to import the package.
'use strict';

const { after, before, test } = require('node:test');
const path = require('node:path');
const { startServer } = require('../support/server');
const { root } = require('../support/child');
const { makeProject, use, holds } = require('./support');

let server;

before(async () => {
  server = await startServer(null);
});

after(() => server.stop());

const ways = {
  'plain require': ['index.cjs', `const ReserveResource = require('redis-reservation');${use}`],
  'require, .default': ['index.cjs', `const ReserveResource = require('redis-reservation').default;${use}`],
  'require, by name': ['index.cjs', `const { ReserveResource } = require('redis-reservation');${use}`],
  'import by default': ['index.mjs', `import ReserveResource from 'redis-reservation';${use}`],
  'import by name': ['index.mjs', `import { ReserveResource } from 'redis-reservation';${use}`],
  'import of everything': [
    'index.mjs',
    `import * as everything from 'redis-reservation'; const ReserveResource = everything.default;${use}`,
  ],
  'import()': ['index.cjs', `import('redis-reservation').then(({ default: ReserveResource }) => {${use}});`],
  createRequire: [
    'index.mjs',
    `import { createRequire } from 'node:module';
     const ReserveResource = createRequire(import.meta.url)('redis-reservation');${use}`,
  ],
};

for (const [name, [file, text]] of Object.entries(ways)) {
  test(name, async (t) => {
    await holds(t, server, makeProject({ [file]: text }), [file]);
  });
}

test('package.json can be required', async (t) => {
  const code = `
    const { name } = require('redis-reservation/package.json');
    const ReserveResource = require(name);${use}`;
  await holds(t, server, makeProject({ 'index.cjs': code }), ['index.cjs']);
});

const coffee = `
ReserveResource = require 'redis-reservation'

class Worker extends ReserveResource
  constructor: (name) ->
    super name, process.env.REDIS_HOST, process.env.REDIS_PORT, 0, 10, false

worker = new Worker 'usage'
worker.lock 'usage', (err, had) ->
  throw err if err?
  held = had and worker.held
  worker.release (err, freed) ->
    throw err if err?
    console.log "#{if held then 'held' else 'not held'}, freed #{freed}"
`;

for (const [version, compiler] of [
  [1, 'coffee-script'],
  [2, 'coffeescript'],
]) {
  test(`CoffeeScript ${version}, a subclass`, async (t) => {
    const folder = makeProject({ 'index.coffee': coffee });
    const program = path.join(root, 'node_modules', compiler, 'bin', 'coffee');
    await holds(t, server, folder, [program, 'index.coffee']);
  });
}
