// A healthy cluster: locks on every shard, one or thousands at once, errors of connecting, the number of connections, and how
// processes end.
'use strict';

const assert = require('node:assert/strict');
const { after, before, suite, test } = require('node:test');
const { startChild } = require('../support/child');
const { keepLog } = require('../support/reservation');
const { until, within, atOnce } = require('../support/wait');
const { startCluster } = require('./support/cluster');
const { startNode } = require('./support/node');
const { freePorts, host } = require('./support/ports');
const { namesInSlots, slotCount, slotOf } = require('./support/slots');
const {
  clientsNamed,
  callsOf,
  keyOf,
  namesOfShards,
  onCluster,
  patient,
  valueOf,
} = require('./support/shards');

const outcome = (promise) => promise.catch((error) => error);

suite('a cluster', () => {
  let cluster;
  let masters;

  before(async () => {
    cluster = await startCluster(null);
    masters = await cluster.masters();
  });
  after(() => cluster.stop());

  test('a lock on each shard is acquired, excludes others, is renewed and released', async (t) => {
    const names = namesOfShards(1, (number) => `basic ${number}`).flat();
    const [one, other] = [onCluster(t, cluster), onCluster(t, cluster)];
    for (const [index, name] of names.entries()) {
      assert.equal(await one.lock(name), true);
      assert.deepEqual([one.is_held(name), one._reserve_key], [true, keyOf(name)]);
      assert.equal(await masters[index].command('GET', keyOf(name)), one._reserve_val, 'on its own shard');
      assert.equal(await other.lock(name), false);
      assert.equal(await one.lock(name), false, 'to the holder too');
      await masters[index].command('PEXPIRE', keyOf(name), 5000);
    }
    await one.ensure_reservation();
    for (const [index, name] of names.entries()) {
      const left = await masters[index].command('PTTL', keyOf(name));
      assert.ok(left > 20000, `renewed: ${left} ms`);
    }
    assert.equal(one.held, true);
    assert.equal(await one.release(), 3);
    for (const name of names)
      assert.deepEqual([one.is_held(name), await valueOf(cluster, name)], [false, null]);
    assert.equal(await other.lock(names[0]), true);
    assert.equal(await other.release(names[0]), 1);
  });

  test('heartbeats renew the locks of every shard, and find losses there', async (t) => {
    const names = namesOfShards(1, (number) => `beat ${number}`).flat();
    const reservation = onCluster(t, cluster, { interval: 100, ttl: 1.5 });
    const losses = [];
    reservation.on('lost', (error) => losses.push(error.message));
    for (const name of names) await reservation.lock(name);
    const start = performance.now();
    await until(() => performance.now() - start > 1700, { what: 'more than the ttl' });
    assert.deepEqual([reservation.held, losses], [true, []]);
    await cluster.command(keyOf(names[1]), 'SET', keyOf(names[1]), 'a thief');
    await until(() => losses.length > 0, { what: 'the loss' });
    assert.match(losses[0], new RegExp(` lost ${keyOf(names[1])} to a thief$`));
    assert.equal(await reservation.release(), 2);
    await cluster.command(keyOf(names[1]), 'DEL', keyOf(names[1]));
  });

  test('2,000 locks at once, all over the slots, and one release of all', async (t) => {
    const names = Array.from({ length: 2000 }, (_, index) => `many ${index}`);
    const slots = names.map((name) => slotOf(keyOf(name)));
    assert.ok(Math.min(...slots) < 100 && Math.max(...slots) > slotCount - 100);
    const [one, other] = [onCluster(t, cluster), onCluster(t, cluster)];
    const had = await Promise.all(names.map((name) => one.lock(name)));
    assert.ok(had.every((answer) => answer === true));
    const sizes = await Promise.all(masters.map((node) => node.command('DBSIZE')));
    assert.ok(Math.min(...sizes) > 500, `on every shard: ${sizes}`);
    assert.ok((await Promise.all(names.map((name) => other.lock(name)))).every((answer) => answer === false));
    await one.ensure_reservation();
    assert.equal(await one.release(), 2000);
    const left = await Promise.all(masters.map((node) => node.command('DBSIZE')));
    assert.deepEqual(left, [0, 0, 0]);
  });

  test('keys in the first and the last slot of each shard need no redirection', async (t) => {
    const moved = async () => {
      const texts = await Promise.all(masters.map((node) => node.command('INFO', 'errorstats')));
      return texts.filter((text) => text.includes('errorstat_MOVED')).length;
    };
    assert.equal(await moved(), 0);
    const edges = [0, 5460, 5461, 10921, 10922, slotCount - 1];
    const reservation = onCluster(t, cluster);
    for (const edge of edges)
      assert.equal(await reservation.lock(namesInSlots((slot) => slot === edge)[0]), true);
    assert.equal(await reservation.release(), edges.length);
    assert.equal(await moved(), 0);
  });

  test('an uncontended lock is one command, and a release is one command', async (t) => {
    const reservation = onCluster(t, cluster);
    await reservation.lock('one command');
    await reservation.release();
    const asked = async (work) => {
      const [soFar, , now] = [await callsOf(cluster), await work(), await callsOf(cluster)];
      const names = ['set', 'get', 'pttl', 'evalsha', 'eval', 'client|caching', 'cluster|slots'];
      const counts = names.map((name) => [name, (now[name] || 0) - (soFar[name] || 0)]);
      return Object.fromEntries(counts.filter(([, count]) => count > 0));
    };
    assert.deepEqual(await asked(() => reservation.lock('one command')), { set: 1 });
    // The nodes have the script from the start. It reads before it deletes.
    assert.deepEqual(await asked(() => reservation.release()), { get: 1, evalsha: 1 });
  });

  test('names with {tags}: locks with one tag share a slot, and do not exclude each other', async (t) => {
    const names = ['{a}x', '{a}y', '{b}x', 'a', '{}x', 'ä{ü}', ' {a} b '];
    assert.equal(slotOf(keyOf('{a}x')), slotOf('a'));
    const [one, other] = [onCluster(t, cluster), onCluster(t, cluster)];
    for (const name of names) {
      assert.equal(await one.lock(name), true, name);
      assert.equal(await other.lock(name), false, name);
      assert.equal(await valueOf(cluster, name), one._reserve_val);
    }
    assert.equal(await one.release(), names.length);
  });

  test('one address is enough, also that of a replica, and an address that is down does no harm', async (t) => {
    const [dead] = await freePorts(1);
    const replica = cluster.nodes[4];
    const names = namesOfShards(1, (number) => `seed ${number}`).flat();
    for (const [title, seeds] of Object.entries({
      'a replica alone': [{ host, port: replica.port }],
      'a master alone': [{ host, port: masters[2].port }],
      'one that is down first': [
        { host, port: dead },
        { host, port: masters[0].port },
      ],
      'by name': [{ host: 'localhost', port: masters[1].port }],
    })) {
      const reservation = onCluster(t, cluster, { options: { cluster: seeds } });
      const start = performance.now();
      for (const name of names) assert.equal(await reservation.lock(name), true, title);
      assert.ok(performance.now() - start < 1000, title);
      assert.equal(await reservation.release(), 3, title);
    }
  });

  test('no address answers: an error that names them all', async (t) => {
    const dead = (await freePorts(2)).map((port) => ({ host, port }));
    const reservation = onCluster(t, cluster, { options: { cluster: dead } });
    const start = performance.now();
    const error = await outcome(reservation.lock('job'));
    const took = performance.now() - start;
    assert.equal(error.code, 'ERR_REDIS_CONNECTION');
    for (const { port } of dead) assert.ok(error.message.includes(`${host}:${port}`), error.message);
    assert.match(error.message, /connect ECONNREFUSED/);
    assert.ok(took >= 450 && took < 3000, `after the 500 ms that a refusal is retried: ${took} ms`);
    const waited = await outcome(reservation.wait_until_lock('job', { signal: t.signal }));
    assert.equal(waited.code, 'ERR_REDIS_CONNECTION', 'a first connection is not waited for');
  });

  test('a server that is no cluster: the error says so', async (t) => {
    const plain = await startNode(t);
    const options = { cluster: [{ host, port: plain.port }] };
    const error = await outcome(onCluster(t, cluster, { options }).lock('job'));
    assert.equal(error.code, 'ERR_REDIS_REPLY');
    assert.match(error.message, /cluster support disabled/);
    assert.ok(error.message.includes(`${host}:${plain.port}`), error.message);
    assert.doesNotMatch(error.message, / {2}/, 'no hole where a key would be named');
  });

  test('at most one connection to each node, whatever the number of instances and resources', async (t) => {
    const options = { client_name: 'one-each' };
    const reservations = Array.from({ length: 20 }, () => onCluster(t, cluster, { options }));
    const names = namesOfShards(20, (number) => `shared ${number}`);
    await Promise.all(
      reservations.map((reservation, index) =>
        Promise.all(names.map((list) => reservation.lock(list[index]))),
      ),
    );
    for (const node of cluster.nodes) {
      const clients = await clientsNamed(node, 'one-each');
      const isMaster = masters.includes(node);
      assert.ok(clients.length <= 1, `${clients.length} to ${node.address}`);
      if (isMaster) assert.equal(clients.length, 1, `its name is seen on ${node.address}`);
    }
    for (const reservation of reservations) assert.equal(await reservation.release(), 3);
  });

  test('connections have the default name, also after one was killed', async (t) => {
    const [[name]] = namesOfShards(1);
    const unnamed = onCluster(t, cluster);
    await unnamed.lock(name);
    assert.ok((await clientsNamed(masters[0], 'redis-reservation')).length > 0);
    assert.equal(await unnamed.release(), 1);
    const options = { client_name: 'comes-back' };
    const reservation = onCluster(t, cluster, { interval: 200, options });
    await reservation.lock(name);
    const [client] = await clientsNamed(masters[0], 'comes-back');
    await masters[0].command('CLIENT', 'KILL', 'ID', client.id);
    await until(async () => (await clientsNamed(masters[0], 'comes-back')).length > 0, patient);
    await reservation.ensure_reservation();
    assert.equal(await reservation.release(), 1);
  });

  const preamble = () => `
    const ReserveResource = require('./index.js');
    const cluster = ${JSON.stringify(cluster.addresses)};
    const make = (name) => new ReserveResource('me', null, null, 500, 30, false, '', { cluster, client_name: name });`;

  test('a process with held locks ends at once by itself, with code 0, and its connections close', async (t) => {
    const names = JSON.stringify(namesOfShards(1, (number) => `ending ${number}`).flat());
    const code = `${preamble()}
      const mine = make('ending');
      Promise.all(${names}.map((name) => mine.lock(name))).then((had) => console.log('had', String(had)));`;
    const child = startChild(t, { code });
    await child.line('had true,true,true');
    assert.deepEqual(await child.exit({ timeout: 5000 }), { code: 0, signal: null });
    assert.equal(child.stderr, '');
    for (const node of cluster.nodes) {
      await until(async () => (await clientsNamed(node, 'ending')).length === 0, patient);
    }
    for (const name of JSON.parse(names)) {
      assert.match(await valueOf(cluster, name), /^me-/, 'its ttl is what frees it');
      await cluster.command(keyOf(name), 'DEL', keyOf(name));
    }
  });

  test('a process with pending waits or calls stays alive until they are answered', async (t) => {
    const [[name]] = namesOfShards(1, (number) => `pending ${number}`);
    await cluster.command(keyOf(name), 'SET', keyOf(name), 'somebody', 'EX', 60);
    const code = `${preamble()}
      make('pending').wait_until_lock('${name}').then((key) => console.log('has', key));
      make('pending').lock('${name}').then((had) => console.log('lock', had));`;
    const child = startChild(t, { code });
    await child.line('lock false');
    const start = performance.now();
    await until(() => performance.now() - start > 1500, { what: 'more than a poll' });
    assert.equal(child.ended, undefined, 'it waits');
    await cluster.command(keyOf(name), 'DEL', keyOf(name));
    await child.line(`has ${keyOf(name)}`);
    assert.deepEqual(await child.exit({ timeout: 5000 }), { code: 0, signal: null });
    assert.equal(child.stderr, '');
    await cluster.command(keyOf(name), 'DEL', keyOf(name));
  });

  test('the log lines are those of a single server', async (t) => {
    const log = keepLog();
    const [one, other] = [onCluster(t, cluster, { log }), onCluster(t, cluster, { log })];
    await one.lock('lines');
    await other.lock('lines');
    await one.release();
    await within(
      5000,
      until(() => log.of('reservation-released').length > 0),
    );
    const titles = log.events.map(({ title }) => title);
    assert.deepEqual(titles, [
      'reservation-attempted',
      'reservation-exists',
      'reservation-attempted',
      'reservation-released',
    ]);
  });
});

test('a cluster with a password: the right one works for every node, and a wrong one fails at once', async (t) => {
  const cluster = await startCluster(t, { password: 'a secret:@' });
  const names = namesOfShards(1).flat();
  const right = onCluster(t, cluster);
  for (const name of names) assert.equal(await right.lock(name), true);
  assert.equal(await right.release(), 3);
  for (const [password, text] of Object.entries({ 'some other': /WRONGPASS/, '': /NOAUTH/ })) {
    const wrong = onCluster(t, cluster, { password });
    for (const call of [() => wrong.lock('job'), () => wrong.wait_until_lock('job', { signal: t.signal })]) {
      // A connection that may still succeed is retried for 500 ms.
      const error = await atOnce(450, () => outcome(call()));
      assert.equal(error.code, 'ERR_REDIS_AUTH');
      assert.match(error.message, text);
      assert.ok(password === '' || !error.message.includes(password), 'no secret');
    }
  }
});
