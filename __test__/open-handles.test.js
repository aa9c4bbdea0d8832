// The open handles that `jest --detectOpenHandles` finds of ours: none at rest, also while a lock is held; one for a pending
// call, which keeps the process alive. These tests follow jest's rule; __test__/usage/runners.usage.js runs jest itself.
'use strict';

const assert = require('node:assert/strict');
const { test } = require('node:test');
const { startChild } = require('./support/child');
const { startServer } = require('./support/server');

/**
 * A process that runs this code. It has make(), and open(), which names what is active by jest's rule: a resource with
 * `hasRef()` while that is true, any other one until it is destroyed. Everything since the package was loaded counts.
 */
function run(t, server, code) {
  const preamble = `
    const ReserveResource = require('./index.js');
    const make = () =>
      new ReserveResource('me', process.env.REDIS_HOST, process.env.REDIS_PORT, 300, 30, false);
    const skipped = ['PROMISE', 'TIMERWRAP', 'ELDHISTOGRAM', 'PerformanceObserver', 'RANDOMBYTESREQUEST', 'DNSCHANNEL',
      'ZLIB', 'SIGNREQUEST'];
    const resources = new Map();
    require('node:async_hooks').createHook({
      destroy: (id) => resources.delete(id),
      init(id, type, _trigger, resource) {
        if (skipped.includes(type)) return;
        const ref = 'hasRef' in resource && new WeakRef(resource);
        const is_active = ref ? () => ref.deref() !== undefined && ref.deref().hasRef() : () => true;
        resources.set(id, { type, is_active });
      },
    }).enable();
    const turn = () => new Promise((resolve) => setImmediate(resolve));
    // Node destroys resources in a later turn.
    const open = async () => {
      for (let turns = 0; turns < 5; turns += 1) {
        global.gc();
        await turn();
      }
      return Array.from(resources.values()).filter(({ is_active }) => is_active()).map(({ type }) => type);
    };
    const tell = (value) => console.log(JSON.stringify(value));
    (async () => { ${code} })();`;
  return startChild(t, { code: preamble }, { execArgv: ['--expose-gc'], env: server.environment });
}

async function told(child) {
  assert.deepEqual(await child.exit(), { code: 0, signal: null }, child.stderr);
  return child.stdout.trim().split('\n').map(JSON.parse);
}

test('no handle is open at rest: after a release, and while a lock is held', async (t) => {
  const server = await startServer(t);
  const child = run(
    t,
    server,
    `
    const reservation = make();
    await reservation.lock('job');
    await reservation.ensure_reservation();
    await reservation.release();
    const released = await open();
    await reservation.lock('job');
    await new Promise((resolve) => make().lock('other', resolve));
    const held = await open();
    tell({ released, held });`,
  );
  assert.deepEqual(await told(child), [{ released: [], held: [] }]);
});

test('a pending call has one open handle, until it is answered', async (t) => {
  const server = await startServer(t);
  const child = run(
    t,
    server,
    `
    const [holder, waiter, other] = [make(), make(), make()];
    await holder.lock('job');
    const waits = [waiter.wait_until_lock('job'), other.wait_until_lock('job')];
    const two = await open();
    await holder.release();
    await Promise.race(waits);
    const one = await open();
    await waiter.release();
    await other.release();
    await Promise.all(waits);
    await waiter.release();
    await other.release();
    const none = await open();
    tell({ two, one, none });`,
  );
  const ours = ['redis-reservation.deliver'];
  assert.deepEqual(await told(child), [{ two: ours, one: ours, none: [] }]);
});

test('a pending call in a worker thread has one open handle, until it is answered', async (t) => {
  const server = await startServer(t);
  const code = `
    const { Worker } = require('node:worker_threads');
    const source = \`
      const { createHook } = require('node:async_hooks');
      const { parentPort } = require('node:worker_threads');
      const ReserveResource = require('./index.js');
      const ours = [];
      createHook({
        init(_id, type, _trigger, resource) {
          if (type === 'redis-reservation.deliver') ours.push(resource);
        },
      }).enable();
      const open = () => ours.map((resource) => resource.hasRef());
      (async () => {
        const { REDIS_HOST, REDIS_PORT } = process.env;
        const reservation = new ReserveResource('me', REDIS_HOST, REDIS_PORT, 300, 30, false);
        const locking = reservation.lock('job');
        const pending = open();
        await locking;
        await new Promise((resolve) => setImmediate(resolve));
        parentPort.postMessage({ pending, held: open() });
      })();\`;
    new Worker(source, { eval: true }).on('message', tell);`;
  assert.deepEqual(await told(run(t, server, code)), [{ pending: [true], held: [false] }]);
});
