// Servers without client tracking: waiters poll each second, and one log line says so. Within a process, waiters wake without
// a poll.
'use strict';

const assert = require('node:assert/strict');
const { suite, test } = require('node:test');
const { startServer } = require('../support/server');
const { until } = require('../support/wait');
const { key, startPeer, tries, tried, show, now } = require('./kit');

/** Title -> how the server is started, and which commands are then forbidden. */
const refusals = {
  'CLIENT TRACKING is forbidden by ACL': {
    rules: ['-client', '+client|info', '+client|kill', '+client|caching'],
  },
  'CLIENT CACHING is forbidden by ACL': {
    rules: ['-client', '+client|info', '+client|kill', '+client|tracking'],
  },
  'CLIENT is renamed away': { args: ['--rename-command', 'CLIENT', ''] },
  'HELLO is renamed away, so there is only RESP2': { args: ['--rename-command', 'HELLO', ''] },
};

async function prepare(t, { args, rules }) {
  const server = await startServer(t, { args });
  const client = server.client();
  if (rules) await client.acl('SETUSER', 'default', ...rules);
  return { server, client, peer: await startPeer(t, server) };
}

suite('polling', { concurrency: true }, () => {
  for (const [title, refusal] of Object.entries(refusals)) {
    test(title, async (t) => {
      const { client, server, peer } = await prepare(t, refusal);
      await client.set(key, 'somebody', 'EX', 600);
      const names = ['one', 'other', 'third'];
      const earlier = await tries(client);
      const start = now();
      const waits = names.map((name) => peer.callOf(name, 'wait_until_lock', 'job'));
      await tried(client, earlier, 4);
      const passed = now() - start;
      // The first try (or two, if the refusal came with it), and polls, only of the first in the queue.
      assert.ok(passed > 1700 && passed < 6000, `4 tries in ${passed} ms`);
      const freed = now();
      await client.del(key);
      for (const [index, wait] of waits.entries()) {
        const { at, error, val } = await wait;
        assert.deepEqual([error, await client.get(key)], [null, val]);
        assert.ok(at - freed < 2500, `had after ${at - freed} ms`);
        await peer.callOf(names[index], 'release');
      }
      assert.equal(await client.exists(key), 0);
      const lines = peer.linesOf('waiting-by-polling');
      assert.equal(lines.length, 1, JSON.stringify(lines));
      assert.deepEqual([lines[0].level, lines[0].endpoint], ['warning', `${server.host}:${server.port}`]);
      assert.match(lines[0].reason, /\w+ \w+/);
    });
  }

  test('the log line comes once, not once for each connection', async (t) => {
    const { client, peer } = await prepare(t, refusals['HELLO is renamed away, so there is only RESP2']);
    await client.set(key, 'somebody', 'EX', 600);
    peer.callOf('one', 'wait_until_lock', 'job');
    await tried(client, await tries(client));
    for (let round = 0; round < 3; round += 1) {
      const earlier = await tries(client);
      await client.client('KILL', 'TYPE', 'normal');
      await tried(client, earlier);
    }
    await until(() => peer.linesOf('reservation-attempt').length >= 4, { what: 'the lines of its tries' });
    assert.equal(peer.linesOf('waiting-by-polling').length, 1);
  });

  test('a key that expires is acquired at the next poll', async (t) => {
    const { client, peer } = await prepare(t, refusals['HELLO is renamed away, so there is only RESP2']);
    await client.set(key, 'somebody', 'PX', 1500);
    const start = now();
    const { at, error } = await peer.call('wait_until_lock', 'job');
    assert.equal(error, null);
    assert.ok(at - start > 1490 && at - start < 4000, `${at - start} ms`);
  });

  test('within a process no poll is needed, also after ten hand-overs, when the key is deleted', async (t) => {
    const { client, peer } = await prepare(t, refusals['HELLO is renamed away, so there is only RESP2']);
    await peer.callOf('holder', 'lock', 'job');
    const waits = Array.from({ length: 25 }, async (_, number) => {
      const answer = await peer.callOf(`waiter ${number}`, 'wait_until_lock', 'job');
      await peer.callOf(`waiter ${number}`, 'release');
      return answer;
    });
    await tried(client, await tries(client));
    const freed = now();
    await peer.callOf('holder', 'release');
    const times = (await Promise.all(waits)).map(({ at }) => at - freed);
    assert.deepEqual(
      times,
      [...times].sort((one, other) => one - other),
    );
    assert.ok(Math.max(...times) < 900, show(times));
  });
});
