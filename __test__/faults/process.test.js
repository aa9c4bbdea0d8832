// Processes and worker threads that end during calls: others are not disturbed, no waiter waits for a dead one, and nothing
// crashes or hangs. Also processes with equal names.
'use strict';

const assert = require('node:assert/strict');
const { execFileSync } = require('node:child_process');
const fs = require('node:fs');
const { test } = require('node:test');
const { commandCalls } = require('../support/commands');
const { patient, runChild, ran } = require('../support/faults');
const { makeReservation } = require('../support/reservation');
const { startServer } = require('../support/server');
const { until, within } = require('../support/wait');

const key = 'reservation-job';

/** True once the system has stopped a process. */
function isStopped(pid) {
  if (process.platform === 'linux') return /\) T /.test(fs.readFileSync(`/proc/${pid}/stat`, 'utf8'));
  return execFileSync('ps', ['-o', 'stat=', '-p', String(pid)], { encoding: 'utf8' }).startsWith('T');
}

const clean = { code: 0, signal: null };

/** In a child: endless locks and releases of ten names, and three held locks. */
const load = `
  const busy = (tag) => {
    const all = Array.from({ length: 10 }, () => make(5, 2));
    const turn = (one, name) => one.lock(name, () => one.release(() => turn(one, name)));
    all.forEach((one, index) => turn(one, 'busy ' + tag + ' ' + index));
    for (const name of ['a', 'b', 'c']) make(5, 2).lock('held ' + tag + ' ' + name, () => {});
    for (let index = 0; index < 5; index += 1) make(5, 2).wait_until_lock('main', () => {});
  };`;

test('a process is killed under load, during calls and with held locks: all keys are free after the ttl', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  await client.set('reservation-main', 'other');
  const child = runChild(t, server, `${load} busy('x'); make().lock('seen', () => process.send('busy'));`);
  await child.message((message) => message === 'busy');
  await ran(client, 'del', 200);
  await child.kill('SIGKILL');
  const names = (await client.keys('reservation-*')).filter((name) => !/main|seen/.test(name));
  assert.ok(names.length >= 3, `${names}`);
  for (const name of names) assert.ok((await client.pttl(name)) <= 2000, 'each has an end');
  const waiter = makeReservation(t, server);
  assert.equal(await within(10000, waiter.wait_until_lock('held x a')), 'reservation-held x a');
  await until(async () => (await client.keys('reservation-*')).length === 3, {
    ...patient,
    what: 'the end of the rest',
  });
});

test('a killed waiter does not block those behind it', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  const holder = makeReservation(t, server);
  await holder.lock('job');
  const wait = `
    const reservation = make();
    reservation.wait_until_lock('job', (...args) => { process.send({ args }); reservation.release(report); });`;
  const children = [];
  for (let index = 0; index < 3; index += 1) {
    children.push(runChild(t, server, wait));
    await until(async () => (await commandCalls(client)).set >= index + 2, { ...patient, what: 'its try' });
  }
  const [first, stopped, last] = children;
  await first.kill('SIGKILL');
  stopped.pause(); // it cannot react, and is still connected
  await until(() => isStopped(stopped.pid), { ...patient, what: 'its standstill' });
  // When redis answers these, it has read and refused everything that the process sent before.
  for (let round = 0; round < 2; round += 1) await client.ping();
  await holder.release();
  assert.deepEqual(await last.message(() => true, patient), { args: [null, key] });
  assert.deepEqual(await last.message(() => true, patient), { values: [1] });
  stopped.resume();
  assert.deepEqual(await stopped.message(() => true, patient), { args: [null, key] });
  assert.deepEqual(await stopped.exit(patient), clean);
});

test('200 worker threads are terminated under load: the main thread keeps its locks', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  const code = `
    const { Worker } = require('node:worker_threads');
    const source = (work) => \`
      const { parentPort } = require('node:worker_threads');
      const ReserveResource = require('./index.js');
      const make = (interval, ttl) =>
        new ReserveResource('worker', process.env.REDIS_HOST, process.env.REDIS_PORT, interval, ttl, false);
      \${work}\`;
    const main = make(200, 3);
    const losses = [];
    main.on('lost', ({ message }) => losses.push(message));
    const counts = { ended: 0, errors: [], own: 0, missed: 0 };
    let stop = false;
    // The main thread's own calls, which must not be disturbed.
    async function own() {
      const reservation = make(5, 10);
      reservation.on('lost', ({ message }) => losses.push(message));
      while (!stop) {
        if (!(await reservation.lock('own'))) counts.errors.push('own: not locked');
        if ((await reservation.release()) !== 1) counts.errors.push('own: not released');
        counts.own += 1;
        if (!main.held) counts.missed += 1;
      }
    }
    async function one(number) {
      const worker = new Worker(source(${JSON.stringify(load)} + \`
        busy(\${number});
        make(5, 2).lock('ready \${number}', () => parentPort.postMessage('busy'));
        // Some end before any answer, some right after the first, some in the middle of calls.
        if (\${number} % 3 === 0) parentPort.postMessage('busy');\`), { eval: true });
      worker.on('error', (error) => counts.errors.push(String(error)));
      await new Promise((resolve) => worker.once('message', resolve));
      if (number % 3 === 2) await new Promise((resolve) => setTimeout(resolve, number % 20));
      await worker.terminate();
      counts.ended += 1;
    }
    main.lock('main', async () => {
      const traffic = own().catch((error) => counts.errors.push(String(error)));
      let next = 0;
      const lane = async () => { while (next < 200) await one(next++); };
      await Promise.all([lane(), lane(), lane(), lane()]);
      stop = true;
      await traffic;
      process.send({ ...counts, losses, held: main.held, released: await main.release() });
      process.disconnect();
    });`;
  const child = runChild(t, server, code);
  const { own, ...facts } = await child.message(() => true, { timeout: 120000 });
  assert.deepEqual(facts, { ended: 200, errors: [], missed: 0, losses: [], held: true, released: 1 });
  assert.ok(own > 100, `${own} cycles`);
  assert.deepEqual(await child.exit(), clean, child.stderr);
  assert.equal(child.stderr, '');
  // The keys of ended threads are not renewed, and none of their waiters has acquired what the main thread released.
  await until(async () => (await client.dbsize()) === 0, { ...patient, what: 'the end of their keys' });
});

for (const [where, exit] of [
  ['in the answer of a lock', `make().lock('job', () => process.exit(7));`],
  [
    'in the listener of a loss',
    `
    const one = make(20, 30);
    one.on('lost', () => process.exit(7));
    one.lock('job', () => {});`,
  ],
  ['in a log line', `make(20, 30, undefined, () => process.exit(7)).lock('job', () => {});`],
  [
    'in an exception handler',
    `
    process.on('uncaughtException', () => process.exit(7));
    make().lock('job', () => { throw new Error('of the worker'); });`,
  ],
]) {
  test(`process.exit under load, ${where}: exits with its code, without a crash or a hang`, async (t) => {
    const server = await startServer(t);
    const client = server.client();
    await client.set('reservation-main', 'other');
    const child = runChild(t, server, `${load} busy('x'); ${exit}`);
    if (where.includes('loss')) {
      await until(() => client.exists(key), { ...patient, what: 'the key' });
      await client.set(key, 'thief-1');
    }
    assert.deepEqual(await child.exit(patient), { code: 7, signal: null }, child.stderr);
    assert.equal(child.stderr, '');
  });
}

test('process.exit in a callback of a worker thread under load: the process goes on', async (t) => {
  const server = await startServer(t);
  const code = `
    const { Worker } = require('node:worker_threads');
    const source = (where) => \`
      const ReserveResource = require('./index.js');
      const make = (interval = 500, ttl = 30) =>
        new ReserveResource('worker', process.env.REDIS_HOST, process.env.REDIS_PORT, interval, ttl, false);
      ${load} busy('x'); \${where}\`;
    const main = make(200, 3);
    main.lock('main', async () => {
      const codes = [];
      for (const where of [
        "make().lock('job', () => process.exit(5));",
        "make().lock('job').then(() => process.exit(5));",
        "make().lock('job', () => { throw new Error('of the worker'); });",
      ]) {
        const worker = new Worker(source(where), { eval: true });
        worker.on('error', () => {});
        codes.push(await new Promise((resolve) => worker.once('exit', resolve)));
      }
      process.send({ codes, held: main.held, released: await main.release() });
      process.disconnect();
    });`;
  const child = runChild(t, server, code);
  assert.deepEqual(await child.message(() => true, patient), { codes: [5, 5, 1], held: true, released: 1 });
  assert.deepEqual(await child.exit(), clean, child.stderr);
});

test('hundreds of exceptions in callbacks while calls are in flight: each is thrown once, and all calls are answered', async (t) => {
  const server = await startServer(t);
  const code = `
    const count = 500;
    const thrown = new Set();
    let answered = 0;
    const reservation = make(5, 30);
    process.on('uncaughtException', (error) => {
      thrown.add(error.message);
      if (thrown.size === 2 * count) reservation.release((error, released) =>
        process.send({ answered, thrown: thrown.size, error, released }, () => process.disconnect()));
    });
    for (let index = 0; index < count; index += 1) {
      reservation.lock('job ' + index, () => { answered += 1; throw new Error('lock ' + index); });
      reservation.wait_until_lock('other ' + index, () => { answered += 1; throw new Error('wait ' + index); });
    }`;
  const child = runChild(t, server, code);
  assert.deepEqual(await child.message(() => true, patient), {
    answered: 1000,
    thrown: 1000,
    error: null,
    released: 1000,
  });
  assert.deepEqual(await child.exit(), clean, child.stderr);
  assert.equal(await server.client().dbsize(), 0);
});

test('children of a holder do not hold its locks, and their end changes nothing', async (t) => {
  const server = await startServer(t);
  const code = `
    const { fork } = require('node:child_process');
    const main = make(200, 3);
    main.lock('main', async () => {
      const script = require('node:path').resolve('__test__/faults/process.child.js');
      const results = await Promise.all(['exit', 'kill', 'end'].map((how) => new Promise((resolve) => {
        const child = fork(script, [how]);
        let said;
        child.on('message', (message) => {
          said = message;
          if (how === 'kill') child.kill('SIGKILL');
          else child.send(how);
        });
        child.on('exit', (code, signal) => resolve([said, signal || code]));
      })));
      process.send({ results, held: main.held, released: await main.release() });
      process.disconnect();
    });`;
  const child = runChild(t, server, code);
  const { results, held, released } = await child.message(() => true, patient);
  assert.deepEqual([held, released], [true, 1]);
  const said = { main: false, own: true };
  assert.deepEqual(results, [
    [said, 9],
    [said, 'SIGKILL'],
    [said, 0],
  ]);
});

test('the token distinguishes two processes with the same JOB_ID and name', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  const env = { JOB_ID: 'one-and-the-same' };
  const code = `
    const reservation = make(150, 30);
    reservation.on('lost', ({ message }) => process.send({ lost: message }));
    process.on('message', (what) => reservation[what](...(what === 'release' ? [report] : ['job', report])));
    process.send({ ready: true });`;
  const [one, other] = [runChild(t, server, code, { env }), runChild(t, server, code, { env })];
  for (const child of [one, other]) await child.message({ ready: true });
  one.send('lock');
  assert.deepEqual(await one.message(), { values: [true] });
  const first = await client.get(key);
  assert.match(first, /^me-one-and-the-same-/);
  other.send('lock');
  assert.deepEqual(await other.message(), { values: [false] });
  other.send('release');
  assert.deepEqual(await other.message(), { values: [0] });
  assert.equal(await client.get(key), first);
  // Its key is gone, and the other process, with the same name, has acquired it.
  await client
    .multi([
      ['del', key],
      ['set', 'reservation-witness', '1'],
    ])
    .exec();
  other.send('wait_until_lock');
  assert.deepEqual(await other.message(), { values: [key] });
  const second = await client.get(key);
  assert.match(second, /^me-one-and-the-same-/);
  assert.notEqual(second, first);
  const { lost } = await one.message(({ lost: message }) => message, patient);
  assert.ok(
    lost === `Worker ${first} lost ${key} to ${second}` || lost.endsWith(`lost reservation for ${key}`),
    lost,
  );
  one.send('release');
  assert.deepEqual(await one.message(), { values: [0] });
  assert.equal(await client.get(key), second);
  other.send('release');
  assert.deepEqual(await other.message(), { values: [1] });
});
