// The system refuses what the first call needs: a thread, file descriptors. That call fails with an error that names the
// limit, the next one tries again, and nothing of the failed start is left.
'use strict';

const assert = require('node:assert/strict');
const { execFileSync } = require('node:child_process');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { test } = require('node:test');
const { startChild } = require('../support/child');
const { startServer } = require('../support/server');

const root = path.resolve(__dirname, '..', '..');

const is_linux = process.platform === 'linux';
const has_prlimit = is_linux && found('prlimit');

function found(program) {
  return process.env.PATH.split(':').some((folder) => fs.existsSync(path.join(folder, program)));
}

/** A copy of the package that any user can read. */
function copyPackage(t) {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'reservation-shortage-'));
  t.after(() => fs.rmSync(folder, { recursive: true, force: true }));
  fs.chmodSync(folder, 0o755);
  for (const name of fs
    .readdirSync(root)
    .filter((one) => /^(index\.js|lib|package\.json|.*\.node)$/.test(one))) {
    fs.cpSync(path.join(root, name), path.join(folder, name), { recursive: true });
  }
  return folder;
}

const preamble = `
  const fs = require('node:fs');
  const ReserveResource = require('./index.js');
  const make = () => new ReserveResource('me', process.env.REDIS_HOST, process.env.REDIS_PORT, 500, 30, false);
  const tell = (error) => ({ code: error.code, name: error.name, message: error.message, cause: error.cause && error.cause.code });
  const attempt = () => make().lock('job ' + Math.random()).catch(tell);
  const descriptors = () => fs.readdirSync('/proc/self/fd').length;`;

/**
 * A child that can start no further thread after it has reported `ready`, until the test allows it again. The system counts
 * the threads of a user, but not those of root, so for root the child runs as another user.
 */
async function startLimited(t, server, code) {
  const who = process.getuid() === 0 ? { uid: 65534 } : {};
  const options = { cwd: copyPackage(t), env: { ...server.environment, HOME: '/' }, ...who };
  const child = startChild(t, { code: preamble + code }, options);
  await child.message({ ready: true });
  // As the child's user, who needs no privilege for it.
  const prlimit = (...words) =>
    execFileSync('prlimit', [...words, `--pid=${child.pid}`], { stdio: 'pipe', encoding: 'utf8', ...who });
  const before = prlimit('--nproc', '--output=SOFT', '--noheadings').trim();
  prlimit('--nproc=1:');
  return { child, allowThreads: () => prlimit(`--nproc=${before}:`) };
}

const noThread = {
  code: 'ERR_RESOURCE_SHORTAGE',
  name: 'ReservationError',
  cause: 'EAGAIN',
};

function assertNoThread(error) {
  const { message, ...rest } = error;
  assert.deepEqual(rest, noThread, message);
  assert.match(message, /could not start its thread: .*temporarily unavailable.*`ulimit -u`.*pids limit/);
}

const needsPrlimit = { skip: !has_prlimit && 'needs prlimit' };

test(
  'no thread for the first calls: each fails and names the limit, the next one succeeds, and nothing is left of the failed ones',
  needsPrlimit,
  async (t) => {
    const server = await startServer(t);
    const code = `
    const work = {
      async refused() {
        const first = await attempt();
        const before = descriptors();
        const more = [];
        for (let count = 0; count < 20; count++) more.push(await attempt());
        const waited = await make().wait_until_lock('job').catch(tell);
        const quit = await make()._init_redis().quit().catch(tell);
        return { first, more, waited, quit, left: descriptors() - before, released: await make().release() };
      },
      async allowed() {
        const locked = await Promise.all([attempt(), attempt()]);
        process.disconnect();
        return { locked };
      },
    };
    process.on('message', async (what) => {
      const seen = await work[what]();
      if (process.connected) process.send(seen);
      else process.stdout.write(JSON.stringify(seen));
    });
    process.send({ ready: true });`;
    const { child, allowThreads } = await startLimited(t, server, code);
    child.send('refused');
    const { first, more, waited, quit, left, released } = await child.message();
    for (const error of [first, ...more, waited, quit]) assertNoThread(error);
    assert.equal(left, 0, 'descriptors that each failed start leaves');
    assert.equal(released, 0);
    allowThreads();
    child.send('allowed');
    assert.deepEqual(await child.exit(), { code: 0, signal: null });
    assert.deepEqual(JSON.parse(child.stdout), { locked: [true, true] });
  },
);

test(
  'no thread for the first calls of a worker and of the main thread: once there is one, both succeed',
  needsPrlimit,
  async (t) => {
    const server = await startServer(t);
    const code = `
    const { Worker } = require('node:worker_threads');
    const inside = ${JSON.stringify(preamble)} + \`
      const { parentPort } = require('node:worker_threads');
      parentPort.on('message', async () => parentPort.postMessage(await attempt()));
      parentPort.postMessage('ready');\`;
    const worker = new Worker(inside, { eval: true });
    worker.on('message', (answer) => process.send(answer === 'ready' ? { ready: true } : { answer }));
    process.on('message', async (who) => {
      if (who === 'worker') worker.postMessage('');
      else process.send({ answer: await attempt() });
    });`;
    const { child, allowThreads } = await startLimited(t, server, code);
    for (const who of ['worker', 'main', 'worker']) {
      child.send(who);
      assertNoThread((await child.message()).answer);
    }
    allowThreads();
    for (const who of ['worker', 'main']) {
      child.send(who);
      assert.deepEqual(await child.message(), { answer: true });
    }
  },
);

test('few descriptors for the first call: it fails and names the limit, or succeeds; a later call succeeds', async (t) => {
  if (!is_linux) return t.skip('elsewhere the limit is not what `ulimit -n` says');
  const server = await startServer(t);
  const told = [];
  for (let left = 0; left <= 8; left++) {
    const code = `${preamble}
      require('node:net');
      const taken = [];
      try { for (;;) taken.push(fs.openSync('/dev/null')); } catch {}
      for (let count = 0; count < ${left}; count++) fs.closeSync(taken.pop());
      attempt().then(async (first) => {
        taken.forEach((descriptor) => fs.closeSync(descriptor));
        const before = descriptors();
        process.send({ first, later: await attempt(), next: await attempt(), before, after: descriptors() });
        process.disconnect();
      });`;
    const child = startChild(
      t,
      { code },
      { env: server.environment, through: ['sh', '-c', 'ulimit -n 64; exec "$@"', 'sh'] },
    );
    const { first, later, next } = await child.message();
    assert.deepEqual([later, next], [true, true], `${left} left`);
    assert.deepEqual(await child.exit(), { code: 0, signal: null });
    told.push(first === true ? 'true' : `${first.code} ${first.message}`);
    if (first.code === 'ERR_RESOURCE_SHORTAGE')
      assert.match(first.message, /`ulimit -n`.*The next call tries again/);
    else assert.ok(first === true || first.code === 'ERR_REDIS_CONNECTION', JSON.stringify(first));
  }
  assert.match(told[0], /^ERR_RESOURCE_SHORTAGE/, 'with none left the binary cannot even be opened');
  assert.ok(
    told.some((one) => /could not start its thread: Too many open files/.test(one)),
    `one that could not start its thread: ${told}`,
  );
  assert.equal(told.at(-1), 'true', `enough: ${told}`);
});
