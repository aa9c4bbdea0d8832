// How answers reach an event loop that was blocked, and instances that the caller keeps no reference to.
'use strict';

const assert = require('node:assert/strict');
const { test } = require('node:test');
const { runChild } = require('./support/faults');
const { startServer } = require('./support/server');
const { until } = require('./support/wait');

const patient = { timeout: 20000 };

test('of answers that piled up, at most 256 are delivered in one turn of the event loop', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  const child = runChild(
    t,
    server,
    `
    const reservation = make();
    const turns = [];
    let answers = 0;
    process.once('message', () => {
      for (let each = 0; each < 3000; each += 1) {
        reservation.lock('job ' + each, (error) => {
          if (error) throw error;
          answers += 1;
        });
      }
      process.send('sent', () => {
        require('fs').readSync(0, Buffer.alloc(1), 0, 1); // the loop is blocked until all calls are answered
        const turn = () => {
          turns.push(answers);
          if (answers < 3000) setImmediate(turn);
          else process.send({ turns });
        };
        setImmediate(turn);
      });
    });`,
  );
  child.send('go');
  await child.message((message) => message === 'sent');
  await until(async () => (await client.dbsize()) === 3000, { ...patient, what: 'all keys' });
  child.process.stdin.write('x');
  const { turns } = await child.message(({ turns: found }) => found !== undefined, patient);
  const steps = turns.map((answers, index) => answers - (turns[index - 1] || 0));
  assert.ok(Math.max(...steps) <= 256, steps.join(' '));
  assert.ok(Math.max(...steps) > 100, 'they had piled up');
});

test('an instance goes on holding and waiting when the caller keeps no reference to it', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  const child = runChild(
    t,
    server,
    `
    const begin = async () => {
      await make(200, 1).lock('held');
      make(200, 1).wait_until_lock('wanted', (error) => { if (error) throw error; process.send('had'); });
    };
    process.once('message', () => begin().then(() => {
      setInterval(() => gc(), 20);
      process.send('forgotten');
    }));`,
    { execArgv: ['--expose-gc'] },
  );
  await client.set('reservation-wanted', 'somebody');
  child.send('go');
  await child.message((message) => message === 'forgotten');
  const value = await client.get('reservation-held');
  const begin = performance.now();
  await until(() => performance.now() - begin > 3000, { ...patient, what: 'three times the ttl' });
  assert.equal(await client.get('reservation-held'), value);
  await client.del('reservation-wanted');
  await child.message((message) => message === 'had');
});
