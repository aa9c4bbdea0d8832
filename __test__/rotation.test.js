// Passwords that rotate, as cloud tokens do: connections that nothing needs are closed, those of holders and waiters are kept.
'use strict';

const assert = require('node:assert/strict');
const fs = require('node:fs');
const { test } = require('node:test');
const { commandCalls } = require('./support/commands');
const { patient, wait, ran } = require('./support/faults');
const { makeReservation, keepLosses } = require('./support/reservation');
const { startServer } = require('./support/server');
const { until, within } = require('./support/wait');

const turns = 40;

/** How many connections of the package CLIENT LIST shows. */
async function connections(client) {
  return (await client.client('LIST')).split('\n').filter((line) => line.includes('name=redis-reservation'))
    .length;
}

const descriptors = () => (fs.existsSync('/proc/self/fd') ? fs.readdirSync('/proc/self/fd').length : 0);

test('many passwords in turn: connections that nothing needs are closed within seconds', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  await client.set('reservation-waited', 'other');
  const [holder, waiter, rotating] = Array.from({ length: 3 }, () =>
    makeReservation(t, server, { interval: 300, ttl: 20 }),
  );
  const losses = keepLosses(holder);
  holder.password = 'token-1';
  await holder.lock('held');
  waiter.password = 'token-2';
  const waiting = wait(t, waiter, 'waited');
  await until(async () => (await commandCalls(client)).get >= 1, { ...patient, what: 'a look' });
  const before = descriptors();
  for (let turn = 0; turn < turns; turn += 1) {
    rotating.password = `token-${turn}`;
    if (turn % 2) assert.equal(await rotating.lock('job'), true);
    else await rotating.wait_until_lock('job', { timeout: 5000 });
    assert.equal(await rotating.release(), 1);
  }
  assert.ok((await connections(client)) > 10, 'there were many');
  // The holder and the waiter need theirs. That of the last password is not needed either.
  await until(async () => (await connections(client)) <= 2, { ...patient, what: 'the end of the others' });
  await until(() => descriptors() - before <= 5, { ...patient, what: 'the end of their descriptors' });
  await ran(client, 'pexpire', 3);
  assert.deepEqual([holder.held, losses], [true, []]);
  assert.equal(await connections(client), 2, 'what is needed is kept');

  await client.del('reservation-waited');
  assert.equal(await within(10000, waiting), 'reservation-waited');
  assert.equal(await rotating.lock('again'), true, 'the last password still locks');
  rotating.password = 'token-5';
  assert.equal(await rotating.lock('earlier'), true, 'and so does an earlier one');
  assert.equal(await rotating.release(), 2);
  assert.equal(await holder.release(), 1);
  assert.equal(await waiter.release(), 1);
  await until(async () => (await connections(client)) <= 1, { ...patient, what: 'the end of those, too' });
});

test('many users in turn: connections that nothing needs are closed within seconds', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  for (let turn = 0; turn < 10; turn += 1) {
    await client.acl('SETUSER', `user-${turn}`, 'on', '>pw', '~*', '&*', '+@all');
    const one = makeReservation(t, server, { password: 'pw', options: { username: `user-${turn}` } });
    assert.equal(await one.lock('job'), true);
    assert.equal(await one.release(), 1);
  }
  await until(async () => (await connections(client)) <= 1, { ...patient, what: 'the end of the others' });
});
