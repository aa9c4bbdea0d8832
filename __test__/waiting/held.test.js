// Keys without a ttl, and keys that are no strings: waiters wait for them as for all others, and wake at their end.
'use strict';

const assert = require('node:assert/strict');
const { suite, test, before, after } = require('node:test');
const { startServer } = require('../support/server');
const { key, startPeer, tries, tried, startWaiting, WOKEN, median, show, now } = require('./kit');

const kinds = {
  'a string without a ttl': (client) => client.set(key, 'somebody'),
  'an empty string': (client) => client.set(key, ''),
  'a number': (client) => client.set(key, 5),
  'a list': (client) => client.rpush(key, 'x'),
  'a hash with a ttl': (client) => client.multi().hset(key, 'x', 'y').expire(key, 600).exec(),
  'a set': (client) => client.sadd(key, 'x'),
  'a sorted set': (client) => client.zadd(key, 1, 'x'),
  'a stream': (client) => client.xadd(key, '*', 'x', 'y'),
};

suite('a key that is', () => {
  let server;
  let client;
  let peer;

  before(async () => {
    server = await startServer(null);
    client = server.client();
    peer = await startPeer(null, server);
  });

  after(async () => {
    await peer.child.kill();
    await server.stop();
  });

  for (const [title, make] of Object.entries(kinds)) {
    test(title, async () => {
      const times = [];
      for (let round = 0; round < 5; round += 1) {
        await make(client);
        const { answer } = await startWaiting(peer, client);
        const dump = await client.dump(key);
        const freed = now();
        await client.del(key);
        const { at, error, val } = await answer;
        times.push(at - freed);
        assert.deepEqual([error, await client.get(key)], [null, val]);
        assert.notEqual(dump, null, 'it was left alone');
        await peer.callOf('waiter', 'release');
      }
      assert.ok(median(times) < WOKEN, show(times));
    });
  }

  test('without a ttl is polled each second, too', async () => {
    await client.set(key, 'somebody');
    const { answer, since } = await startWaiting(peer, client);
    await tried(client, await tries(client), 2);
    const passed = now() - since;
    assert.ok(passed > 1700 && passed < 5000, `two polls in ${passed} ms`);
    await client.del(key);
    assert.equal((await answer).error, null);
    await peer.callOf('waiter', 'release');
  });

  test('changed from one type to another, and then deleted', async () => {
    await client.set(key, 'somebody');
    const { answer } = await startWaiting(peer, client);
    for (const change of [
      (all) => all.del(key).rpush(key, 'x'),
      (all) => all.rpush(key, 'y').expire(key, 600),
      (all) => all.del(key).hset(key, 'x', 'y'),
      (all) => all.expire(key, 600),
      (all) => all.persist(key),
    ]) {
      const earlier = await tries(client);
      await change(client.multi()).exec();
      await tried(client, earlier);
    }
    const freed = now();
    await client.del(key);
    const { at, error } = await answer;
    assert.equal(error, null);
    assert.ok(at - freed < 450, `had after ${at - freed} ms`);
  });
});
