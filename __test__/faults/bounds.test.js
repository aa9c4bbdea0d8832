// Bounds: the memory of 100,000 calls while redis is down or hangs, leases that must survive such bursts, the CPU time of
// waiting in an outage, and the limit of pending calls. Runs alone, since it fills a core and counts CPU time.
'use strict';

const assert = require('node:assert/strict');
const { test } = require('node:test');
const { commandCalls } = require('../support/commands');
const { patient, runChild } = require('../support/faults');
const memory = require('../support/memory');
const { startServer } = require('../support/server');
const { until } = require('../support/wait');

const key = 'reservation-job';
const calls = 100000;

for (const [what, stop, codes, again] of [
  ['down', (server) => server.kill(), ['ERR_REDIS_CONNECTION'], (server) => server.start()],
  // After the first timeout the connection is closed, and the other calls lose it.
  [
    'stopped',
    (server) => server.pause(),
    ['ERR_REDIS_TIMEOUT', 'ERR_REDIS_CONNECTION'],
    (server) => server.resume(),
  ],
]) {
  test(
    `100,000 calls while redis is ${what}: one error each, in bounded memory, and no key stays`,
    { skip: memory.skip },
    async (t) => {
      const server = await startServer(t);
      const source = `${memory.source}
      const count = ${calls};
      const reservation = make(60000, 600, { command_timeout: 2000, connect_timeout: 2000 });
      setInterval(() => {}, 1000);
      const round = () => new Promise((resolve) => {
        let answered = 0;
        let wrong = 0;
        const start = alive();
        for (let index = 0; index < count; index += 1) {
          reservation.lock('job ' + index, (error, got) => {
            answered += 1;
            if (!error || !${JSON.stringify(codes)}.includes(error.code) || got !== undefined) wrong += 1;
            if (answered === count) setImmediate(() => resolve({ answered, wrong, peak }));
          });
        }
        const peak = (alive() - start) / MB;
      });
      process.once('message', async () => {
        const first = await round();
        // Memory that grows with the peak and stays has grown in the first round.
        const base = await settled(0, 2000);
        const second = await round();
        process.send({ first, second });
        process.once('message', () => reservation.lock('after', async (...answer) => {
          report(...answer);
          // By then the undos are done, and their records are freed.
          process.send({ stays: (await settled(base + MB / 2) - base) / MB });
        }));
      });
      reservation.lock('warm-up', () => reservation.release(report));`;
      const child = runChild(t, server, source, { execArgv: memory.execArgv });
      assert.deepEqual(await child.message(), { values: [1] });
      await stop(server);
      child.send('go');
      const { first, second } = await child.message(() => true, { timeout: 120000 });
      for (const { answered, wrong } of [first, second]) assert.deepEqual([answered, wrong], [calls, 0]);
      const peaks = [first.peak, second.peak];
      t.diagnostic(`MB at the most: ${peaks}`);
      // At most 5 kB for a call that waits for a connection.
      assert.ok(Math.max(...peaks) < 500, `${peaks} MB`);
      await again(server);
      const client = server.client();
      if (what === 'stopped') {
        // As many as fit into the buffers of the sockets.
        await until(async () => (await commandCalls(client)).set > 100, { ...patient, what: 'late SETs' });
      }
      child.send('go');
      assert.deepEqual(await child.message(() => true, { timeout: 60000 }), { values: [true] });
      await until(async () => (await client.dbsize()) === 1, {
        timeout: 60000,
        interval: 100,
        what: 'no orphans',
      });
      assert.deepEqual(await client.keys('*'), ['reservation-after']);
      const { stays } = await child.message(() => true, { timeout: 60000 });
      t.diagnostic(`MB more in the end: ${stays}`);
      assert.ok(stays < 1, `${stays} MB`);
    },
  );
}

/** In the child: a lease of two seconds that must survive the burst. */
const steady = `
  const steady = make(300, 2);
  const losses = [];
  steady.on('lost', ({ message }) => losses.push(message));`;

test('a burst of 200,000 calls does not starve the heartbeats', async (t) => {
  const server = await startServer(t);
  const code = `${steady}
    const count = 200000;
    const reservation = make(60000, 600);
    steady.lock('steady', () => {
      let answered = 0;
      let wrong = 0;
      for (let index = 0; index < count; index += 1) {
        reservation.lock('job ' + index, async (error, got) => {
          answered += 1;
          if (error || !got) wrong += 1;
          if (answered < count) return;
          const released = await reservation.release();
          process.send({ wrong, released, losses, held: steady.held });
        });
      }
    });`;
  const child = runChild(t, server, code);
  assert.deepEqual(await child.message(() => true, { timeout: 120000 }), {
    wrong: 0,
    released: 200000,
    losses: [],
    held: true,
  });
});

test('100,000 waiters that are aborted, the last one first, do not starve the heartbeats', async (t) => {
  const server = await startServer(t);
  await server.command('SET', key, 'other');
  const code = `${steady}
    const reservation = make(60000, 600);
    steady.lock('steady', async () => {
      const controllers = Array.from({ length: ${calls} }, () => new AbortController());
      const waits = controllers.map(({ signal }) =>
        reservation.wait_until_lock('job', { signal }).catch(({ name }) => name));
      await steady.ensure_reservation();
      for (const controller of controllers.reverse()) controller.abort();
      const ends = new Set(await Promise.all(waits));
      process.send({ ends: [...ends], losses, held: steady.held });
    });`;
  const child = runChild(t, server, code);
  assert.deepEqual(await child.message(() => true, { timeout: 120000 }), {
    ends: ['AbortError'],
    losses: [],
    held: true,
  });
});

test('the 250,001st pending call is refused at once, a release is not, and later calls succeed again', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  await client.set(key, 'other');
  const code = `${steady}
    const controller = new AbortController();
    const reservation = make(60000, 600);
    const answer = async (promise) => promise.catch(({ code, name }) => code || name);
    steady.lock('steady', async () => {
      const waits = Array.from({ length: 250000 }, () =>
        answer(reservation.wait_until_lock('job', { signal: controller.signal })));
      const refused = await Promise.all([
        answer(reservation.lock('other')),
        answer(reservation.wait_until_lock('job')),
        answer(reservation.wait_until_lock('other')),
      ]);
      const served = [await steady.ensure_reservation(), steady.held, await steady.release()];
      controller.abort(Object.assign(new Error('enough'), { code: 'ENOUGH' }));
      const ends = new Set(await Promise.all(waits));
      process.send({ refused, served, ends: [...ends], later: await answer(reservation.lock('other')), losses });
    });`;
  const child = runChild(t, server, code);
  assert.deepEqual(await child.message(() => true, { timeout: 120000 }), {
    refused: ['ERR_TOO_MANY_CALLS', 'ERR_TOO_MANY_CALLS', 'ERR_TOO_MANY_CALLS'],
    served: [null, true, 1], // undefined, as JSON has it
    ends: ['ENOUGH'],
    later: true,
    losses: [],
  });
});

test('waiters cost no more CPU time while redis is down than while it is up', async (t) => {
  const server = await startServer(t);
  const count = 50000;
  const fill = `for i = 0, ${count - 1} do redis.call('set', 'reservation-' .. i, 'other') end`;
  await server.command('EVAL', fill, '0');
  const code = `
    const reservation = make(60000, 600);
    let served = 0;
    let failed = 0;
    const cpu = (ms, then) => {
      const before = process.cpuUsage();
      const start = performance.now();
      setTimeout(() => {
        const { user, system } = process.cpuUsage(before);
        then((user + system) / 10 / (performance.now() - start));
      }, ms);
    };
    process.on('message', (what) => {
      if (what === 'cpu') cpu(2000, (percent) => process.send({ percent }));
      else process.send({ served, failed });
    });
    (async () => {
      for (let index = 0; index < ${count}; index += 1) {
        reservation.wait_until_lock(String(index)).then(() => { served += 1; }, () => { failed += 1; });
        if (index % 2000 === 0) await new Promise((resolve) => setTimeout(resolve, 5));
      }
      process.send({ waiting: true });
    })();`;
  const child = runChild(t, server, code);
  await child.message({ waiting: true }, { timeout: 60000 });
  const client = server.client();
  await until(async () => (await commandCalls(client)).set >= count * 2, {
    ...patient,
    what: 'all first tries',
  });
  const measure = async () => {
    child.send('cpu');
    return (await child.message(({ percent }) => percent !== undefined)).percent;
  };
  const healthy = await measure();
  await server.kill();
  await measure(); // includes the cost of the break itself
  const outage = await measure();
  t.diagnostic(`${healthy.toFixed(1)} % of a core, ${outage.toFixed(1)} % in the outage`);
  assert.ok(outage < Math.max(5, healthy * 3), `${healthy} %, in the outage ${outage} %`);
  await server.start();
  const all = { served: count, failed: 0 };
  let seen;
  await until(
    async () => {
      child.send('count');
      seen = await child.message(({ served }) => served !== undefined);
      return seen.served + seen.failed === count;
    },
    { timeout: 30000, interval: 100, what: 'all of them' },
  );
  assert.deepEqual(seen, all);
});
