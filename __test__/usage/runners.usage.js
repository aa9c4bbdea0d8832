// jest and vitest: tests of a project that uses the package, with every kind of isolation between test files.
'use strict';

const assert = require('node:assert/strict');
const path = require('node:path');
const { after, before, test } = require('node:test');
const { startChild } = require('../support/child');
const { startServer } = require('../support/server');
const { makeProject } = require('./support');
const { provideTool, linkTool } = require('./tools');

let server;

before(async () => {
  server = await startServer(null);
});

after(() => server.stop());

/** The body of a test file. Several files use the same names, so none may leave a key behind. */
const body = (key) => `
  const { REDIS_HOST, REDIS_PORT } = process.env;
  const make = () => new ReserveResource('usage', REDIS_HOST, REDIS_PORT, 50, 10, false);

  test('locks and releases', async () => {
    const reservation = make();
    expect(await reservation.lock('${key}')).toBe(true);
    expect(reservation.held).toBe(true);
    expect(await reservation.release()).toBe(1);
  });

  test('waits', async () => {
    const [first, second] = [make(), make()];
    await first.lock('${key}');
    const waiting = second.wait_until_lock('${key}');
    await first.release();
    expect(await waiting).toBe('reservation-${key}');
    await second.release();
  });

  test('rejects with an error of its class', async () => {
    const error = await make().lock({}).catch((failure) => failure);
    expect(error).toBeInstanceOf(ReserveResource.ReservationError);
    expect(error.code).toBe('ERR_INVALID_ARG_TYPE');
  });

  test('holds a lock at the end of its file', async () => {
    expect(await make().lock('${key}-left')).toBe(true);
  });
`;

const jestFiles = Object.fromEntries(
  [1, 2, 3].map((number) => [
    `test-${number}.test.js`,
    `const ReserveResource = require('redis-reservation');${body(`jest-${number}-' + process.env.RUN + '`)}`,
  ]),
);

const jestWays = {
  'in one process': ['--runInBand'],
  'in processes': ['--maxWorkers=2'],
  'in threads': ['--maxWorkers=2', '--workerThreads'],
};

for (const [name, args] of Object.entries(jestWays)) {
  test(`jest, ${name}`, async (t) => {
    const folder = makeProject(jestFiles, { manifest: { jest: { testEnvironment: 'node' } } });
    const jest = path.join(provideTool('jest'), 'jest', 'bin', 'jest.js');
    // Here jest must end by itself. The tests below check open handles.
    const child = start(t, folder, jest, ['--rootDir', folder, '--ci', ...args], name);
    assert.equal((await child.exit({ timeout: 60000 })).code, 0, child.stdout + child.stderr);
    assert.match(child.stderr, /Tests: +12 passed, 12 total/);
    assert.doesNotMatch(child.stderr, /did not exit|force exited/);
  });
}

const atRest = {
  'a lock that is released': 'const r = make(); await r.lock(KEY); await r.release();',
  'a lock that is held at the end': 'const r = make(); await r.lock(KEY); await r.ensure_reservation();',
  'a wait that is over':
    'const [a, b] = [make(), make()]; await a.lock(KEY); const w = b.wait_until_lock(KEY); await a.release(); await w;',
};

for (const [name, code] of Object.entries(atRest)) {
  test(`jest --detectOpenHandles names nothing of ours after ${name}`, async (t) => {
    const { code: exit, stderr } = await detect(t, code, 'at-rest');
    assert.equal(exit, 0, stderr);
    assert.match(stderr, /Tests: +1 passed, 1 total/);
    assert.doesNotMatch(stderr, /open handle/);
  });
}

test('jest --detectOpenHandles names a pending wait, and nothing else', async (t) => {
  const code = 'await make().lock(KEY); make().wait_until_lock(KEY, { timeout: 2000 }).catch(() => {});';
  const { stderr } = await detect(t, code, 'pending');
  assert.match(stderr, /detected the following 1 open handle[^]*redis-reservation\.deliver/);
});

/** The output of jest for a test file with this code. */
async function detect(t, code, run) {
  const file = `
    const ReserveResource = require('redis-reservation');
    const { REDIS_HOST, REDIS_PORT, RUN } = process.env;
    const KEY = RUN + process.pid;
    const make = () => new ReserveResource('usage', REDIS_HOST, REDIS_PORT, 50, 10, false);
    test('uses the package', async () => { ${code} });`;
  const folder = makeProject({ 'one.test.js': file }, { manifest: { jest: { testEnvironment: 'node' } } });
  const jest = path.join(provideTool('jest'), 'jest', 'bin', 'jest.js');
  const child = start(t, folder, jest, ['--rootDir', folder, '--ci', '--detectOpenHandles'], run);
  const { code: exit } = await child.exit({ timeout: 60000 });
  return { code: exit, stderr: child.stderr };
}

const vitestFiles = Object.fromEntries(
  [1, 2, 3].map((number) => [
    `test-${number}.test.mjs`,
    `import { expect, test } from 'vitest';
     import ReserveResource from 'redis-reservation';${body(`vitest-${number}-' + process.env.RUN + '`)}`,
  ]),
);

// In the vm pools, vitest 5 on Node 20 fails at the second file of any project, so there is one file.
const vitestWays = { forks: 3, threads: 3, vmForks: 1, vmThreads: 1 };

for (const [pool, files] of Object.entries(vitestWays)) {
  test(`vitest, pool ${pool}`, async (t) => {
    const folder = makeProject(Object.fromEntries(Object.entries(vitestFiles).slice(0, files)));
    linkTool('vitest', folder);
    const vitest = path.join(provideTool('vitest'), 'vitest', 'vitest.mjs');
    const child = start(t, folder, vitest, ['run', '--root', folder, `--pool=${pool}`], pool);
    assert.equal((await child.exit({ timeout: 60000 })).code, 0, child.stdout + child.stderr);
    assert.match(child.stdout, new RegExp(`Tests +${4 * files} passed \\(${4 * files}\\)`));
    assert.doesNotMatch(child.stdout + child.stderr, /close timed out|hanging|Unhandled/);
  });
}

function start(t, folder, program, args, run) {
  const env = { ...server.environment, RUN: run.replace(/ /g, '-'), NO_COLOR: '1', CI: 'true' };
  // Otherwise a runner inside Node's test runner uses its protocol.
  return startChild(t, program, { cwd: folder, args, env: { ...env, NODE_TEST_CONTEXT: '' } });
}
