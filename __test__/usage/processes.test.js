// How the process is started and divided: Node's hardening flags, worker threads, clusters as process managers run them.
'use strict';

const assert = require('node:assert/strict');
const path = require('node:path');
const { after, before, test } = require('node:test');
const { startChild } = require('../support/child');
const { startServer } = require('../support/server');
const { makeProject, use, holds } = require('./support');

let server;

before(async () => {
  server = await startServer(null);
});

after(() => server.stop());

const plain = `const ReserveResource = require('redis-reservation');${use}`;

for (const flag of [
  '--disable-proto=delete',
  '--disable-proto=throw',
  '--frozen-intrinsics',
  '--disallow-code-generation-from-strings',
  '--preserve-symlinks',
]) {
  test(`node ${flag}`, async (t) => {
    const options = { execArgv: [flag], warnings: /^$|ExperimentalWarning/ };
    await holds(t, server, makeProject({ 'index.cjs': plain }), ['index.cjs'], options);
  });
}

// Experimental in Node 20 and 22. --allow-net, where it exists, does not apply to sockets of the native side.
const flags = process.allowedNodeEnvironmentFlags;
const permission = ['--permission', '--experimental-permission'].find((flag) => flags.has(flag));
const skip = permission === undefined && 'this node has no permissions';

test(`node ${permission}, with the permissions that the package needs`, { skip }, async (t) => {
  const folder = makeProject({ 'index.cjs': plain });
  const execArgv = [permission, '--allow-addons', `--allow-fs-read=${folder}/*`];
  await holds(t, server, folder, ['index.cjs'], {
    execArgv,
    warnings: /^$|ExperimentalWarning|SecurityWarning/,
  });
});

test(`node ${permission}, without addons: the call fails and says why`, { skip }, async (t) => {
  const code = `
    const ReserveResource = require('redis-reservation');
    new ReserveResource('usage', process.env.REDIS_HOST, process.env.REDIS_PORT, 0, 10, false)
      .lock('usage', (error) => console.log(error.code, error.message));`;
  const folder = makeProject({ 'index.cjs': code });
  const execArgv = [permission, `--allow-fs-read=${folder}/*`];
  const child = startChild(t, path.join(folder, 'index.cjs'), {
    cwd: folder,
    execArgv,
    env: server.environment,
  });
  assert.equal((await child.exit()).code, 0, child.stderr);
  assert.match(
    child.stdout,
    /^ERR_NATIVE_LOAD [^]*Cannot load native addon because loading addons is disabled/,
  );
});

test('a worker thread', async (t) => {
  const files = {
    'index.cjs': `
      const { Worker } = require('node:worker_threads');
      new Worker(require.resolve('./worker.cjs'));`,
    'worker.cjs': plain,
  };
  await holds(t, server, makeProject(files), ['index.cjs']);
});

test('a worker thread with a reduced environment, started from ESM', async (t) => {
  const files = {
    'index.mjs': `
      import { Worker } from 'node:worker_threads';
      const { REDIS_HOST, REDIS_PORT } = process.env;
      new Worker(new URL('worker.mjs', import.meta.url), { env: { REDIS_HOST, REDIS_PORT }, stdout: false });`,
    'worker.mjs': `import ReserveResource from 'redis-reservation';${use}`,
  };
  await holds(t, server, makeProject(files), ['index.mjs']);
});

test('a cluster: one process holds at a time, and all end by themselves', async (t) => {
  const code = `
    const cluster = require('node:cluster');
    const { REDIS_HOST, REDIS_PORT } = process.env;
    const ReserveResource = require('redis-reservation');
    const make = (ttl) => new ReserveResource('usage', REDIS_HOST, REDIS_PORT, 0, ttl, false);
    if (cluster.isMaster) {
      // The primary runs the native side before it forks.
      const reservation = make(10);
      reservation.lock('primary').then(() => {
        for (let count = 0; count < 4; count += 1) cluster.fork();
      });
      const seen = [];
      cluster.on('message', (worker, message) => seen.push(message + worker.id));
      cluster.on('exit', (worker, code) => {
        seen.push('exit' + code);
        if (seen.filter((what) => what.startsWith('exit')).length < 4) return;
        console.log(JSON.stringify(seen));
        reservation.release();
      });
    } else {
      const reservation = make(10);
      (async () => {
        if (await reservation.lock('primary')) process.exit(3);
        for (let turn = 0; turn < 5; turn += 1) {
          await reservation.wait_until_lock('turn');
          process.send('+');
          await new Promise((resolve) => setTimeout(resolve, 5));
          process.send('-');
          await reservation.release();
        }
        cluster.worker.disconnect();
      })();
    }`;
  const folder = makeProject({ 'index.cjs': code });
  const child = startChild(t, path.join(folder, 'index.cjs'), { cwd: folder, env: server.environment });
  assert.deepEqual(await child.exit({ timeout: 30000 }), { code: 0, signal: null }, child.stderr);
  assert.equal(child.stderr, '');
  const seen = JSON.parse(child.stdout);
  assert.equal(seen.filter((what) => what === 'exit0').length, 4);
  assert.equal(seen.filter((what) => what.startsWith('+')).length, 20);
  assert.deepEqual(await server.client().keys('*'), []);
});

test('a cluster reload: the old worker releases, and its successor acquires the lock', async (t) => {
  // As a process manager does: first a new worker, then SIGINT to the old one.
  const code = `
    const cluster = require('node:cluster');
    const { REDIS_HOST, REDIS_PORT } = process.env;
    const ReserveResource = require('redis-reservation');
    if (cluster.isMaster) {
      const old = cluster.fork();
      const say = (message) => console.log(message);
      old.once('message', (message) => {
        say(message);
        const next = cluster.fork();
        next.once('online', () => old.process.kill('SIGINT'));
        next.once('message', (last) => {
          say(last);
          next.process.kill('SIGINT');
        });
      });
    } else {
      const reservation = new ReserveResource('usage', REDIS_HOST, REDIS_PORT, 0, 10, false);
      process.once('SIGINT', () => reservation.release(() => process.exit(0)));
      reservation.wait_until_lock('reload', () => process.send('worker ' + cluster.worker.id));
    }`;
  const folder = makeProject({ 'index.cjs': code });
  const child = startChild(t, path.join(folder, 'index.cjs'), { cwd: folder, env: server.environment });
  assert.deepEqual(await child.exit({ timeout: 20000 }), { code: 0, signal: null }, child.stderr);
  assert.deepEqual(child.stdout.trim().split('\n'), ['worker 1', 'worker 2']);
  assert.deepEqual(await server.client().keys('*'), []);
});
