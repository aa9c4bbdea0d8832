// The end of processes and worker threads: what keeps them alive, what does not, and when their keys lapse.
'use strict';

const assert = require('node:assert/strict');
const { test } = require('node:test');
const { startChild } = require('./support/child');
const { commandCalls } = require('./support/commands');
const { startServer } = require('./support/server');
const { until } = require('./support/wait');

const key = 'reservation-job';

/** A child process that runs this code; it has ReserveResource and make(interval, ttl). */
function run(t, server, code, options = {}) {
  const preamble = `
    const ReserveResource = require('./index.js');
    const make = (interval = 500, ttl = 30) =>
      new ReserveResource('me', process.env.REDIS_HOST, process.env.REDIS_PORT, interval, ttl, false);
    `;
  return startChild(t, { code: preamble + code }, { env: server.environment, ...options });
}

const clean = { code: 0, signal: null };

test('a held lock does not keep the process alive; its key lapses', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  const child = run(t, server, `make(300, 5).lock('job', (...args) => console.log(JSON.stringify(args)));`);
  await child.line('[null,true]');
  assert.deepEqual(await child.exit(), clean);
  assert.equal(child.stderr, '');
  assert.equal(await client.exists(key), 1, 'it ended before its lease, and did not have to release it');
  await until(async () => !(await client.exists(key)), { timeout: 20000, what: 'the end of the key' });
});

test('a lock that is renewed, released, or was lost does not keep the process alive', async (t) => {
  const server = await startServer(t);
  const code = `
    const reservation = make(20, 30);
    (async () => {
      await reservation.lock('job');
      await reservation.ensure_reservation();
      await reservation.release();
      await reservation.wait_until_lock('job');
      await reservation.lock('other');
      await reservation.release('other');
    })();`;
  const child = run(t, server, code);
  assert.deepEqual(await child.exit({ timeout: 5000 }), clean);
  assert.equal(child.stderr, '');
});

test('a process that only loads and constructs ends at once', async (t) => {
  const server = await startServer(t);
  const child = run(t, server, `make()._init_redis(); make().on('lost', () => {}); make().held;`);
  assert.deepEqual(await child.exit({ timeout: 5000 }), clean);
  assert.equal(await connectionsReceived(server), 0);
});

test('a pending lock keeps the process alive until it is answered', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  const code = `
    const reservation = make();
    reservation.lock('warm-up', () => {
      process.once('message', () => {
        process.disconnect();
        reservation.lock('job', (...args) => console.log(JSON.stringify(args)));
        console.log('locking');
      });
      process.send('ready');
    });`;
  const child = run(t, server, code);
  await child.message((message) => message === 'ready');
  server.pause();
  child.send('go');
  await child.line('locking');
  // Another process that is idle ends before this.
  const idle = run(t, server, `console.log('idle');`);
  assert.deepEqual(await idle.exit(), clean);
  assert.equal(child.ended, undefined);
  server.resume();
  await child.line('[null,true]');
  assert.deepEqual(await child.exit(), clean);
  assert.equal(await client.exists(key), 1);
});

test('a pending wait keeps the process alive, with a callback or a promise', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  await client.set(key, 'other', 'EX', 600);
  const children = [
    run(t, server, `make().wait_until_lock('job', (...args) => console.log(JSON.stringify(args)));`),
    run(
      t,
      server,
      `make().wait_until_lock('job').then((name) => console.log(JSON.stringify([null, name])));`,
    ),
  ];
  await until(async () => (await commandCalls(client)).set >= 7, { timeout: 10000, what: 'several tries' });
  for (const child of children) assert.equal(child.ended, undefined);
  while (children.length > 0) {
    await client.del(key);
    const ended = () => children.findIndex((child) => child.ended);
    await until(() => ended() >= 0, { what: 'the end of one' });
    const [child] = children.splice(ended(), 1);
    assert.deepEqual(child.ended, clean);
    assert.equal(child.stdout, `[null,"${key}"]\n`);
  }
});

test('after an error the process ends by itself as well', async (t) => {
  const server = await startServer(t);
  await server.kill();
  const child = run(t, server, `make().lock('job', (error) => console.log(error.code));`);
  await child.line('ERR_REDIS_CONNECTION');
  assert.deepEqual(await child.exit(), clean);
});

test('a rejected promise that the caller ignores does not end the process', async (t) => {
  const server = await startServer(t);
  await server.kill();
  const code = `
    make().lock('job');
    make().ensure_reservation();
    make()._ensure_reservation();
    const seen = make().lock(undefined);
    // By then the other promises were rejected.
    make().lock('job').catch(() => setImmediate(() => seen.catch((error) => console.log(error.code))));`;
  const child = run(t, server, code);
  await child.line('ERR_INVALID_ARG_TYPE');
  assert.deepEqual(await child.exit(), clean);
  assert.equal(child.stderr, '');
});

test('process.exit during calls ends with its code: no crash, no hang', async (t) => {
  const server = await startServer(t);
  for (const moment of ['', 'setImmediate(', 'setTimeout(']) {
    const exit = moment ? `${moment}() => process.exit(3))` : 'process.exit(3)';
    const code = `
      const reservations = Array.from({ length: 100 }, () => make(1, 2));
      reservations[0].lock('first', () => {
        for (let index = 0; index < 3000; index += 1) {
          const reservation = reservations[index % 100];
          reservation.lock('job ' + index, () => reservation.release('job ' + index, () => {}));
          reservation.wait_until_lock('first', () => {});
        }
        ${exit};
      });`;
    const child = run(t, server, code);
    assert.deepEqual(await child.exit(), { code: 3, signal: null }, child.stderr);
    assert.equal(child.stderr, '');
    await server.command('FLUSHALL');
  }
});

test('an uncaught exception while holding ends the process, and the key lapses', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  const code = `
    make(300, 2).lock('job', () => {
      setImmediate(() => { throw new Error('of the worker itself'); });
    });
    setInterval(() => {}, 1000);`;
  const child = run(t, server, code);
  assert.deepEqual(await child.exit(), { code: 1, signal: null });
  assert.match(child.stderr, /of the worker itself/);
  assert.equal(await client.exists(key), 1);
  await until(async () => !(await client.exists(key)), { what: 'the end of the key' });
});

test('the lock of a killed process goes to a waiter', async (t) => {
  const server = await startServer(t);
  const holder = run(
    t,
    server,
    `make(300, 2).lock('job', () => console.log('held')); setInterval(() => {}, 1000);`,
  );
  await holder.line('held');
  const waiter = run(
    t,
    server,
    `make().wait_until_lock('job', (...args) => console.log(JSON.stringify(args)));`,
  );
  await until(async () => (await commandCalls(server.client())).set >= 2, { what: 'a try' });
  await holder.kill('SIGKILL');
  await waiter.line(`[null,"${key}"]`);
  assert.deepEqual(await waiter.exit(), clean);
});

const inWorker = `
  const { Worker } = require('node:worker_threads');
  const source = (work) => \`
    const { parentPort } = require('node:worker_threads');
    const ReserveResource = require('./index.js');
    const make = (interval, ttl) =>
      new ReserveResource('worker', process.env.REDIS_HOST, process.env.REDIS_PORT, interval, ttl, false);
    \${work}\`;
  const main = make(300, 2);
`;

for (const [end, stop] of [
  ['is terminated', 'worker.terminate()'],
  ['exits', `worker.postMessage('exit')`],
  ['ends by itself', `worker.postMessage('end')`],
]) {
  test(`a worker thread ${end}: its key lapses, the main thread's is renewed`, async (t) => {
    const server = await startServer(t);
    const client = server.client();
    const code = `${inWorker}
      main.lock('main', () => {
        const worker = new Worker(source(\`
          parentPort.on('message', (message) => {
            if (message === 'exit') process.exit();
            parentPort.close(); // nothing else keeps it alive
          });
          const reservation = make(300, 2);
          reservation.lock('job', (error, got) => parentPort.postMessage(got));
        \`), { eval: true });
        worker.on('error', (error) => process.send({ error: String(error) }));
        worker.once('message', (got) => process.send({ got }));
        process.once('message', () => {
          worker.once('exit', () => process.send({ ended: true }));
          ${stop};
        });
      });
      setInterval(() => {}, 1000);`;
    const child = run(t, server, code);
    assert.deepEqual(await child.message(), { got: true });
    // The key is renewed while the worker lives.
    await until(async () => (await commandCalls(client)).pexpire >= 8, { what: 'renewals of both' });
    assert.equal(await client.exists(key, 'reservation-main'), 2);
    child.send('stop');
    assert.deepEqual(await child.message(), { ended: true });
    await until(async () => !(await client.exists(key)), { what: 'the end of the key' });
    const before = (await commandCalls(client)).pexpire;
    await until(async () => (await commandCalls(client)).pexpire >= before + 3, { what: 'more renewals' });
    assert.equal(await client.exists('reservation-main'), 1);
    assert.equal(child.ended, undefined);
  });
}

test('the waiters of a worker thread that ends leave the queue', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  await client.set(key, 'other', 'EX', 600);
  const code = `${inWorker}
    const worker = new Worker(source(\`
      for (let index = 0; index < 3; index += 1) {
        make(300, 30).wait_until_lock('job', () => parentPort.postMessage('got it'));
      }
      parentPort.postMessage('waiting');
    \`), { eval: true });
    worker.on('message', (message) => {
      process.send({ worker: message });
      if (message !== 'waiting') return;
      // In the queue behind those of the worker.
      main.wait_until_lock('job', (error, name) => process.send({ main: name }));
      process.once('message', () => worker.terminate().then(() => process.send({ ended: true })));
    });`;
  const child = run(t, server, code);
  assert.deepEqual(await child.message(), { worker: 'waiting' });
  const before = (await commandCalls(client)).set;
  await until(async () => (await commandCalls(client)).set > before, { what: 'a try' });
  child.send('stop');
  assert.deepEqual(await child.message(), { ended: true });
  await client.del(key);
  assert.deepEqual(await child.message(), { main: key });
  assert.match(await client.get(key), /^me-/);
});

test('worker threads that start and end under load do not disturb the main thread', async (t) => {
  const server = await startServer(t);
  const code = `${inWorker}
    const busy = source(\`
      const reservations = Array.from({ length: 20 }, () => make(5, 2));
      const turn = (reservation, name) => reservation.lock(name, () => reservation.release(() => turn(reservation, name)));
      reservations.forEach((reservation, index) => turn(reservation, 'busy ' + index));
      make(5, 2).lock('busy 0', () => parentPort.postMessage('busy'));
    \`);
    main.lock('main', async () => {
      for (let round = 0; round < 8; round += 1) {
        const workers = [1, 2].map(() => new Worker(busy, { eval: true }));
        await Promise.all(workers.map((worker) => new Promise((resolve) => worker.once('message', resolve))));
        await Promise.all(workers.map((worker) => worker.terminate()));
      }
      process.send({ held: main.held, released: await main.release() });
      process.disconnect();
    });`;
  const child = run(t, server, code);
  assert.deepEqual(await child.message(() => true, { timeout: 30000 }), { held: true, released: 1 });
  assert.deepEqual(await child.exit(), clean, child.stderr);
});

/** How many connections the server accepted since its start, without those of this kit. */
async function connectionsReceived(server) {
  const info = await server.command('INFO', 'stats');
  // One checked that the server is up, one asks.
  return Number(/total_connections_received:(\d+)/.exec(info)[1]) - 2;
}
