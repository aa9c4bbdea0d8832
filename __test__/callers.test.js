// Unusual ways to make and use an instance: from one object, frozen, behind a deep Proxy, with a foreign client in _redis,
// and through the fields that code for 0.4.0 reads.
'use strict';

const assert = require('node:assert/strict');
const { createHook } = require('node:async_hooks');
const { test } = require('node:test');
const util = require('node:util');
const { countCommands } = require('./support/commands');
const { ReserveResource, makeReservation, askError, keepLog } = require('./support/reservation');
const { startServer } = require('./support/server');

const fields = [
  'by',
  'host',
  'port',
  'heartbeat_interval',
  'lock_ttl',
  'metadata',
  'password',
  '_lost_reservation',
  'identifier',
];

/** Acquires and releases a lock. In between, the value in redis must be this instance's. */
async function work(client, reservation, by) {
  assert.ok(reservation instanceof ReserveResource);
  assert.equal(await reservation.lock('job'), true);
  assert.ok((await client.get('reservation-job')).startsWith(`${by}-${process.pid}-`));
  assert.equal(await reservation.release(), 1);
}

test('one object instead of positional arguments sets fields and options', async (t) => {
  const server = await startServer(t, { password: 'hunter2' });
  const log = keepLog();
  const { host, port } = server;
  const reservation = new ReserveResource({
    db: 3,
    lock_ttl: 30,
    by: 'single',
    log,
    port: String(port),
    host,
    key_prefix: 'own:',
    heartbeat_interval: 10000,
    password: 'hunter2',
  });
  assert.deepEqual(Object.keys(reservation), fields);
  assert.deepEqual(
    fields.map((name) => reservation[name]),
    ['single', host, String(port), 10000, 30, log, 'hunter2', false, process.pid],
  );
  assert.equal(await reservation.lock('job'), true);
  const client = server.client({ db: 3 });
  assert.ok((await client.get('own:job')).startsWith(`single-${process.pid}-`));
  assert.equal(await reservation.release(), 1);
  assert.equal(log.of('reservation-released')[0].key, 'own:job');
  assert.ok(!util.inspect(reservation, { depth: 9, showHidden: true }).includes('hunter2'));
  // Fields can still be assigned.
  reservation.lock_ttl = -1;
  await assert.rejects(reservation.lock('job'), { code: 'ERR_INVALID_ARG_VALUE', message: /lock_ttl/ });

  class Own extends ReserveResource {
    constructor(settings) {
      super({ host, port, password: 'hunter2', lock_ttl: 30, log: false, ...settings });
    }
  }
  await work(server.client(), new Own({ by: 'own' }), 'own');
  function Old(settings) {
    ReserveResource.call(this, settings);
  }
  util.inherits(Old, ReserveResource);
  const old = new Old({ by: 'old', host, port, password: 'hunter2', lock_ttl: 30, log: false });
  await work(server.client(), old, 'old');
});

test('one object: the first call reports its mistakes, the constructor never throws', async () => {
  const thrown = new Error('a getter of theirs');
  for (const [settings, pattern] of [
    [
      { by: 'w', hsot: 'x' },
      /"hsot" is not an option of the constructor. Did you mean host\?.* by, host, port/,
    ],
    [{ by: 'w', ttl: 30 }, /"ttl" .* Did you mean lock_ttl\?/],
    [{ by: 'w', lock_ttl: 30, heartbeatInterval: 5 }, /heartbeat_interval/],
    [{ by: 'w', lock_ttl: 30, db: -1 }, /^db must be/],
    [{ by: 'w' }, /^lock_ttl must be/],
    [{ by: 'w', lock_ttl: 30, log: { tls: true } }, /^log must not be options/],
    [
      Object.defineProperty({ by: 'w', lock_ttl: 30 }, 'host', {
        enumerable: true,
        get() {
          throw thrown;
        },
      }),
      /^a getter of theirs$/,
    ],
  ]) {
    const reservation = new ReserveResource(settings);
    if (settings.log === undefined) reservation.metadata = false;
    reservation._init_redis();
    const error = await reservation.lock('job').catch((reason) => reason);
    assert.match(error.message, pattern);
  }
  // An object with a text of its own is a name.
  class Id {
    toString() {
      return 'id-7';
    }
  }
  const id = new Id();
  assert.equal(new ReserveResource(id).by, id);
  assert.equal(new ReserveResource({ by: 'w' }, 'host').host, 'host');
});

for (const [what, close] of Object.entries({
  frozen: Object.freeze,
  sealed: Object.seal,
  'non-extensible': Object.preventExtensions,
})) {
  test(`a ${what} instance works`, async (t) => {
    const server = await startServer(t);
    const client = server.client();
    const log = keepLog();
    const { host, port } = server;
    const settings = { by: 'w', host, port, lock_ttl: 30, log, key_prefix: 'own:' };
    const reservation = new ReserveResource(settings);
    close(reservation);
    assert.equal(await reservation.lock('job'), true);
    assert.deepEqual(
      [reservation.held, reservation.is_held('job'), await client.exists('own:job')],
      [true, true, 1],
    );
    assert.equal(reservation.signal.aborted, false);
    await reservation.ensure_reservation();
    assert.equal(await reservation.wait_until_lock('job'), 'own:job');
    assert.equal(await reservation.release(), 1);
    assert.equal(await reservation.wait_until_lock('job'), 'own:job');
    assert.equal(await reservation.release('job'), 1);
    assert.equal(await client.exists('own:job'), 0);
    assert.ok(log.of('reservation-attempted').length >= 2, 'its lines are there');

    const later = new ReserveResource(settings);
    await later.lock('job');
    close(later);
    assert.equal(later.held, true);
    assert.equal(await later.release(), 1);
    if (what === 'sealed') assert.deepEqual([later._reserve_key, later._reserve_val], [undefined, undefined]);
  });
}

/** A Proxy that also wraps every object that is read through it, as Vue's reactive() does. */
function deep(object) {
  return new Proxy(object, {
    get(target, name, receiver) {
      const value = Reflect.get(target, name, receiver);
      return typeof value === 'object' && value !== null ? deep(value) : value;
    },
  });
}

test('a deep Proxy of an instance works, beside the instance itself', async (t) => {
  const server = await startServer(t);
  const plain = makeReservation(t, server, { options: { key_prefix: 'own:' } });
  const wrapped = deep(plain);
  assert.equal(await wrapped.lock('job'), true);
  assert.deepEqual([wrapped.held, plain.held, plain.is_held('job')], [true, true, true]);
  await wrapped.ensure_reservation();
  assert.equal(wrapped.signal.aborted, false);
  assert.equal(await plain.wait_until_lock('job'), 'own:job');
  assert.equal(await plain.release(), 1);
  assert.equal(await wrapped.wait_until_lock('job', { timeout: 1000 }), 'own:job');
  assert.equal(await wrapped.release('job'), 1);
  assert.equal(await wrapped._redis.quit(), 'OK');
});

const foreign = () => ({
  get: (key, callback) => setImmediate(callback, null, null),
  set: (args, callback) => setImmediate(callback, null, 'OK'),
});

test('a foreign client in _redis is refused by the next call, whose error names the options to use instead', async (t) => {
  const server = await startServer(t);
  class Overriding extends ReserveResource {
    _init_redis() {
      if (!this._redis) this._redis = foreign();
    }
  }
  class Inherited extends ReserveResource {}
  Inherited.prototype._redis = foreign();
  const client = server.client();
  await client.ping();
  const { calls } = await countCommands(client, async () => {
    for (const [make, pattern] of [
      [() => makeReservation(t, server, { Class: Overriding }), /overridden _init_redis/],
      [() => makeReservation(t, server, { Class: Inherited }), /assigned/],
      [
        () => Object.assign(makeReservation(t, server), { _redis: client }),
        /an instance of EventEmitter, .*assigned/,
      ],
    ]) {
      for (const [method, ...args] of [
        ['lock', 'job'],
        ['wait_until_lock', 'job', { timeout: 500 }],
      ]) {
        const error = await askError((done) => make()[method](...args, done));
        assert.equal(error.code, 'ERR_INVALID_ARG_VALUE');
        assert.match(error.message, /^_redis must be .*db, username, tls/s);
        assert.match(error.message, pattern);
        await assert.rejects(make()[method](...args), { code: 'ERR_INVALID_ARG_VALUE' });
      }
    }
  });
  assert.deepEqual(calls, {});
  // Removing it corrects the mistake. It does not affect what is held meanwhile.
  const reservation = makeReservation(t, server);
  await reservation.lock('job');
  reservation._redis = foreign();
  await assert.rejects(reservation.lock('other'), { message: /^_redis must be/ });
  assert.equal(await reservation.release(), 1);
  reservation._redis = null;
  assert.equal(await reservation.lock('other'), true);
});

test('an overriding _init_redis may set fields before it calls ours, and add to its result', async (t) => {
  const server = await startServer(t);
  let calls = 0;
  class Counting extends ReserveResource {
    _init_redis() {
      calls += 1;
      this.port = server.port;
      super._init_redis();
      this._redis.on('error', assert.fail).once('ready', assert.fail).setMaxListeners(0);
    }
  }
  const reservation = makeReservation(t, { host: server.host, port: 1 }, { Class: Counting });
  assert.equal(await reservation.lock('job'), true);
  assert.ok(calls > 0);
  for (const [method, named] of [
    ['select', /options\.db/],
    ['auth', /password, and options\.username/],
  ]) {
    assert.throws(() => reservation._redis[method](3, assert.fail), {
      code: 'ERR_INVALID_ARG_VALUE',
      message: named,
    });
  }
  class Selecting extends ReserveResource {
    _init_redis() {
      super._init_redis();
      this._redis.select(3, () => {});
    }
  }
  const refused = makeReservation(t, server, { Class: Selecting });
  await assert.rejects(refused.lock('other'), { code: 'ERR_INVALID_ARG_VALUE', message: /options\.db/ });
});

test('reading _heartbeat gives no timer, and warns once while something is held', async (t) => {
  const server = await startServer(t);
  const log = keepLog();
  const reservation = makeReservation(t, server, { log });
  assert.equal(reservation._heartbeat, undefined);
  await reservation.lock('job');
  assert.equal(log.of('heartbeat-is-no-timer').length, 0);
  clearInterval(reservation._heartbeat);
  clearInterval(reservation._heartbeat);
  const [line, ...others] = log.of('heartbeat-is-no-timer');
  assert.deepEqual([line.level, line.field, others], ['warning', '_heartbeat', []]);
  assert.match(line.remedy, /release\(\).*Infinity/);
  reservation._heartbeat = 'theirs';
  assert.equal(reservation._heartbeat, 'theirs');
});

test('signal takes any number of listeners', async (t) => {
  const server = await startServer(t);
  const warnings = [];
  const listen = (warning) => warnings.push(warning);
  process.on('warning', listen);
  t.after(() => process.off('warning', listen));
  const reservation = makeReservation(t, server);
  await reservation.lock('job');
  for (let count = 0; count < 50; count += 1) reservation.signal.addEventListener('abort', () => {});
  await new Promise((resolve) => setImmediate(resolve));
  assert.deepEqual(warnings, []);
});

test('no async resource of ours claims to keep the process alive', async (t) => {
  const server = await startServer(t);
  const contexts = [];
  const hook = createHook({
    init(_id, type, _trigger, resource) {
      if (type.startsWith('redis-reservation')) contexts.push('hasRef' in resource && resource);
    },
  });
  hook.enable();
  t.after(() => hook.disable());
  const reservation = makeReservation(t, server);
  await reservation.lock('job');
  await reservation.ensure_reservation();
  await reservation.wait_until_lock('other');
  await reservation.release();
  await new Promise((resolve) => reservation.lock('job', () => reservation.release(resolve)));
  assert.ok(contexts.length >= 6, `${contexts.length} contexts`);
  assert.deepEqual(new Set(contexts.map((context) => context && context.hasRef())), new Set([false]));
  assert.ok(!contexts.includes(false), 'each can be asked');
});
