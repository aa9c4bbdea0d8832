// Finding the master through sentinels: three of them, the remaining ones, or none; an unknown name; one of two names; and
// sentinels that contradict each other, or themselves.
'use strict';

const assert = require('node:assert/strict');
const { suite, test } = require('node:test');
const { startProxy } = require('../support/proxy');
const {
  ReserveResource,
  ask,
  askError,
  keepLog,
  keepLosses,
  makeReservation,
} = require('../support/reservation');
const { until, within } = require('../support/wait');
const { connections } = require('./support/looks');
const { startNode } = require('./support/node');
const { startSentinels } = require('./support/sentinels');
const {
  connectionsNamed,
  keyOf,
  startSteadySentinels,
  throughSentinels,
} = require('./support/through-sentinels');

/** How long a refused connection is retried, and what else a call may take on a busy machine. */
const budget = 500;
const spare = 1500;

/** Whether these calls found the master, and how long the slowest of them took. */
async function timeOf(calls) {
  const start = performance.now();
  assert.ok((await Promise.all(calls)).every((got) => got === true));
  return performance.now() - start;
}

/** The error names the master, and the sentinels. */
function assertNamesAll(error, kit, name = kit.name) {
  assert.equal(error.code, 'ERR_REDIS_CONNECTION', error.message);
  assert.ok(error instanceof ReserveResource.RedisConnectionError);
  assert.ok(error.message.includes(name), `the master's name: ${error.message}`);
  for (const { host, port } of kit.addresses) {
    assert.ok(error.message.includes(`${host}:${port}`), `each sentinel: ${error.message}`);
  }
}

test('lock, renewal, wait and release, on the master', async (t) => {
  const kit = await startSteadySentinels(t);
  const master = await kit.master();
  const options = { client_name: 'one-for-all' };
  const holder = throughSentinels(t, kit, { interval: 100, ttl: 2, options });
  const losses = keepLosses(holder);
  assert.deepEqual(await ask((done) => holder.lock('job', done)), [null, true]);
  assert.equal(await master.command('GET', keyOf('job')), holder._reserve_val);
  const others = [1, 2].map(() => throughSentinels(t, kit, { options }));
  assert.equal(await others[0].lock('job'), false);
  const waits = others.map(async (other) => {
    assert.equal(await other.wait_until_lock('job'), keyOf('job'));
    assert.equal(holder.held, false);
    return other.release();
  });
  const start = performance.now();
  await until(() => performance.now() - start > 2500, { what: 'more than the ttl' });
  assert.deepEqual([holder.held, losses], [true, []], 'renewed');
  assert.equal(await connectionsNamed(master, 'one-for-all'), 1, 'one connection for all of them');
  assert.deepEqual(await ask((done) => holder.release(done)), [null, 1]);
  assert.deepEqual(await within(5000, Promise.all(waits)), [1, 1]);
  assert.equal(await master.command('EXISTS', keyOf('job')), 0);
  // The replicas are not connected. Each sentinel is asked repeatedly over one connection.
  const count = (nodes) => Promise.all(nodes.map((node) => connectionsNamed(node, 'one-for-all')));
  assert.deepEqual(await count(await kit.replicas()), [0, 0]);
  assert.deepEqual(await count(kit.sentinels), [1, 1, 1]);
});

test('there is one connection to the master, which quit closes and the next call opens again', async (t) => {
  const kit = await startSteadySentinels(t);
  const master = await kit.master();
  const reservation = throughSentinels(t, kit, { options: { client_name: 'closing', db: 2 } });
  assert.equal(await reservation.lock('job'), true);
  assert.equal(await reservation.release(), 1);
  reservation._init_redis().end();
  await until(async () => (await connectionsNamed(master, 'closing')) === 0);
  assert.equal(await reservation.lock('job'), true);
  assert.equal(await connectionsNamed(master, 'closing'), 1);
  await master.command('SELECT', 2);
  assert.equal(await master.command('GET', keyOf('job')), reservation._reserve_val, 'in its database');
});

test('one or two of three sentinels are down: the rest is enough', async (t) => {
  const kit = await startSteadySentinels(t);
  for (const [index, sentinel] of kit.sentinels.slice(0, 2).entries()) {
    await sentinel.kill();
    const others = ['lock', 'wait_until_lock'].map((call) =>
      throughSentinels(t, kit, { options: { client_name: `${index}-${call}` } }),
    );
    const took = await timeOf([
      others[0].lock(`job ${index}`),
      others[1].wait_until_lock(`other ${index}`).then((key) => key === keyOf(`other ${index}`)),
    ]);
    assert.ok(took < budget, `${index + 1} down: ${took} ms`);
  }
});

test('one or two of three sentinels hang: the rest is enough, and calls do not wait for them', async (t) => {
  const kit = await startSteadySentinels(t);
  for (const [index, sentinel] of kit.sentinels.slice(0, 2).entries()) {
    sentinel.pause();
    // A hung sentinel costs at most its share of a short limit.
    const options = { client_name: `hung-${index}`, connect_timeout: 800 };
    const took = await timeOf([throughSentinels(t, kit, { options }).lock(`job ${index}`)]);
    assert.ok(took < 800, `${index + 1} hung: ${took} ms`);
  }
});

test('all sentinels hang: an error after connect_timeout, and success when they go on', async (t) => {
  const kit = await startSteadySentinels(t);
  for (const sentinel of kit.sentinels) sentinel.pause();
  const start = performance.now();
  const reservation = throughSentinels(t, kit, { options: { connect_timeout: 700 } });
  const error = await within(
    10000,
    askError((done) => reservation.lock('job', done)),
  );
  const took = performance.now() - start;
  assertNamesAll(error, kit);
  assert.match(error.message, /700 ms \(connect_timeout\)/);
  assert.ok(took >= 690 && took < 700 + spare, `${took} ms`);
  for (const sentinel of kit.sentinels) sentinel.resume();
  assert.equal(await reservation.lock('job'), true);
});

test('all sentinels are down: an error that names the master and the sentinels', async (t) => {
  const kit = await startSentinels(t, { name: 'the-primary', replicas: 0 });
  for (const sentinel of kit.sentinels) await sentinel.kill();
  const log = keepLog();
  const reservation = throughSentinels(t, kit, { log });
  for (const call of ['lock', 'wait_until_lock']) {
    const start = performance.now();
    const error = await within(
      10000,
      askError((done) => reservation[call]('job', done)),
    );
    const took = performance.now() - start;
    assertNamesAll(error, kit, 'the-primary');
    assert.match(error.message, /^Redis connection to .* failed - .*refused/i);
    assert.ok(took >= budget - 10 && took < budget + spare, `${call}: ${took} ms`);
  }
  assert.ok(log.of('redis-error').length >= 2, 'logged');
  await kit.sentinels[2].start();
  assert.equal(await reservation.lock('job'), true, 'one that comes back is enough');
});

test('all sentinels go down while a lock is held: the lock is kept, since the master is up', async (t) => {
  const kit = await startSentinels(t, { replicas: 0 });
  const holder = throughSentinels(t, kit, { interval: 100, ttl: 2 });
  const losses = keepLosses(holder);
  await holder.lock('job');
  await Promise.all(kit.sentinels.map((sentinel) => sentinel.kill()));
  const start = performance.now();
  await until(() => performance.now() - start > 2500, { what: 'more than the ttl' });
  assert.deepEqual([holder.held, losses], [true, []]);
  assert.equal(await holder.lock('other'), true);
  assert.equal(await holder.release(), 2);
});

test('a name that no sentinel knows is an error that says so', async (t) => {
  const kit = await startSentinels(t, { replicas: 0 });
  const reservation = throughSentinels(t, kit, { options: { name: 'nobody' } });
  for (const call of ['lock', 'wait_until_lock']) {
    const start = performance.now();
    const error = await within(
      10000,
      askError((done) => reservation[call]('job', done)),
    );
    assertNamesAll(error, kit, 'nobody');
    assert.match(error.message, /no sentinel knows a master "nobody"/);
    const took = performance.now() - start;
    assert.ok(took < budget + spare, `${call}: ${took} ms`);
  }
});

test('an address that is no sentinel is skipped among others, and is an error alone', async (t) => {
  const kit = await startSentinels(t, { replicas: 0 });
  const [{ host, port }] = kit.nodes;
  const mixed = throughSentinels(t, kit, { options: { sentinels: [{ host, port }, ...kit.addresses] } });
  assert.equal(await mixed.lock('job'), true);
  const alone = throughSentinels(t, kit, { options: { sentinels: [{ host, port }] } });
  const error = await within(
    10000,
    askError((done) => alone.lock('other', done)),
  );
  assert.equal(error.code, 'ERR_REDIS_CONNECTION', error.message);
  assert.match(error.message, /sentinel/);
  assert.ok(error.message.includes(`${host}:${port}`), error.message);
});

test('two masters with the same sentinels: each name leads to its master', async (t) => {
  const kit = await startSentinels(t, { replicas: 0 });
  const second = await startNode(t);
  for (const sentinel of kit.sentinels) {
    await sentinel.command('SENTINEL', 'MONITOR', 'second', second.host, second.port, 2);
  }
  const [one, other] = [kit.name, 'second'].map((name) => throughSentinels(t, kit, { options: { name } }));
  assert.equal(await one.lock('job'), true);
  assert.equal(await other.lock('job'), true, 'another redis, another lock');
  assert.equal(await kit.nodes[0].command('GET', keyOf('job')), one._reserve_val);
  assert.equal(await second.command('GET', keyOf('job')), other._reserve_val);
});

// Sentinels that do not know each other, since their masters differ.
suite('sentinels that do not agree', () => {
  const name = 'mymaster';

  /** A sentinel that names this master, since the failover of that epoch. */
  const startSentinel = (t, master, epoch) => {
    const watch = [`monitor ${name} ${master.host} ${master.port} 1`, `config-epoch ${name} ${epoch}`];
    return startNode(t, { sentinel: true, config: { sentinel: watch } });
  };

  /** A reservation with frequent renewals, through these sentinels. */
  const makeHolder = (t, sentinels, client_name) => {
    const addresses = sentinels.map(({ host, port }) => ({ host, port }));
    const settings = { interval: 100, ttl: 5, options: { sentinels: addresses, name, client_name } };
    return makeReservation(t, { host: null, port: null }, settings);
  };

  const untilMoved = (from, to, client_name) =>
    until(
      async () =>
        (await connectionsNamed(to, client_name)) === 1 && (await connectionsNamed(from, client_name)) === 0,
      { timeout: 10000, what: 'a connection to the other master alone' },
    );

  test('the master of the later failover counts, whichever sentinel answers first, and is kept', async (t) => {
    const [former, latter] = [await startNode(t), await startNode(t)];
    const outdated = await startSentinel(t, former, 1);
    const slow = await startProxy(t, await startSentinel(t, latter, 2));
    slow.delay(10, { direction: 'down' });
    const holder = makeHolder(t, [outdated, slow], 'staying');
    const losses = keepLosses(holder);
    assert.equal(await holder.lock('job'), true);
    assert.equal(await latter.command('GET', keyOf('job')), holder._reserve_val, 'on the later master');
    const idsOn = async (node) => (await connections(node, 'staying')).map(({ id }) => id);
    const before = await idsOn(latter);
    const start = performance.now();
    await until(() => performance.now() - start > 2500, { what: 'two more answers of each' });
    assert.deepEqual([await idsOn(latter), await idsOn(former)], [before, []], 'the same connection');
    assert.deepEqual([holder.held, losses], [true, []]);
    assert.equal(await holder.release(), 1);
  });

  test('a sentinel that was unreachable knows of a later failover: the client moves to its master', async (t) => {
    const [former, latter] = [await startNode(t), await startNode(t)];
    const outdated = await startSentinel(t, former, 1);
    const late = await startProxy(t, await startSentinel(t, latter, 2));
    await late.refuse();
    const holder = makeHolder(t, [outdated, late], 'going');
    const losses = keepLosses(holder);
    assert.equal(await holder.lock('job'), true);
    assert.equal(await connectionsNamed(former, 'going'), 1);
    await late.accept();
    await untilMoved(former, latter, 'going');
    await until(() => losses.length === 1, { what: 'the loss of what the later master does not have' });
  });

  test('a sentinel that names another master without a failover is followed', async (t) => {
    const [former, latter] = [await startNode(t), await startNode(t)];
    const sentinel = await startSentinel(t, former, 3);
    const holder = makeHolder(t, [sentinel], 'following');
    const losses = keepLosses(holder);
    assert.equal(await holder.lock('job'), true);
    assert.equal(await connectionsNamed(former, 'following'), 1);
    // As when an operator moves a name to another server: the epoch starts at zero.
    await sentinel.command('SENTINEL', 'REMOVE', name);
    await sentinel.command('SENTINEL', 'MONITOR', name, latter.host, latter.port, 1);
    await untilMoved(former, latter, 'following');
    await until(() => losses.length === 1, { what: 'the loss of what the other server does not have' });
  });
});
