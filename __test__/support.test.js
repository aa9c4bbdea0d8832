// The test kit itself: servers keep or lose their data as requested, commands are counted exactly, and nothing that a test
// starts outlives it, however the test ends.
'use strict';

const assert = require('node:assert/strict');
const fs = require('node:fs');
const { test } = require('node:test');
const { startChild } = require('./support/child');
const { countCommands } = require('./support/commands');
const { startServer } = require('./support/server');
const { until, within } = require('./support/wait');

test('a server restarts on its port with and without its data', async (t) => {
  const server = await startServer(t, { password: 'a secret' });
  const { port } = server;
  const client = server.client();
  await client.set('key', 'value');
  await server.restart({ data: true });
  assert.equal(server.port, port);
  assert.equal(await client.get('key'), 'value');
  await server.restart();
  assert.equal(await client.get('key'), null);
});

test('a paused server answers nothing until it is resumed', async (t) => {
  const server = await startServer(t);
  server.pause();
  const answer = server.client().ping();
  await assert.rejects(within(100, answer), /did not come/);
  server.resume();
  assert.equal(await answer, 'PONG');
});

test('commands are counted exactly, without those of the counting', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  const { calls, value } = await countCommands(client, async () => {
    await client.set('key', 'value');
    await client.get('key');
    return client.get('key');
  });
  assert.deepEqual(calls, { set: 1, get: 2 });
  assert.equal(value, 'value');
});

for (const signal of ['SIGINT', 'SIGTERM', 'SIGKILL']) {
  test(`everything that a test started ends after a ${signal}`, async (t) => {
    const code = `
      const { startServer } = require('./__test__/support/server');
      startServer(null).then((server) => {
        server.pause(); // a paused process cannot react to a request to end
        process.send({ pid: server.pid, dir: server.dir });
        setInterval(() => {}, 1000);
      });`;
    const child = startChild(t, { code });
    const { pid, dir } = await child.message();
    await child.kill(signal);
    await until(() => !isRunning(pid), { what: 'the end of the server' });
    if (signal !== 'SIGKILL') assert.equal(fs.existsSync(dir), false, 'its folder is gone');
    fs.rmSync(dir, { recursive: true, force: true });
  });
}

/** Whether a process runs. A zombie, which has ended but was not reaped, does not. */
function isRunning(pid) {
  try {
    process.kill(pid, 0);
  } catch {
    return false;
  }
  const status = `/proc/${pid}/status`;
  return !fs.existsSync(status) || !/^State:\s+Z/m.test(fs.readFileSync(status, 'utf8'));
}
