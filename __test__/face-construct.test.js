// Constructing: the fields, every way to call and extend the constructor, the exports of the module, and how an instance is
// printed. Without redis: constructing does no I/O.
'use strict';

const assert = require('node:assert/strict');
const { EventEmitter } = require('node:events');
const { test } = require('node:test');
const util = require('node:util');
const ReserveResource = require('../index.js');
const { startChild } = require('./support/child');

const FIELDS = [
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

test('the constructor is a plain function with seven parameters, as in 0.4.0', () => {
  assert.equal(typeof ReserveResource, 'function');
  assert.equal(ReserveResource.name, 'ReserveResource');
  assert.equal(ReserveResource.length, 7);
  assert.ok(ReserveResource.prototype instanceof EventEmitter);
  const enumerable = Object.keys(ReserveResource.prototype);
  for (const method of ['lock', 'wait_until_lock', 'release', 'ensure_reservation', '_ensure_reservation']) {
    assert.ok(enumerable.includes(method), method);
  }
  assert.ok(enumerable.includes('_set_expiration') && enumerable.includes('_init_redis'));
  assert.ok(!enumerable.includes('logger') && !enumerable.includes('held') && !enumerable.includes('signal'));
});

test('an instance owns the fields of 0.4.0, in their order, and nothing else', () => {
  const log = () => {};
  const reservation = new ReserveResource('worker', 'host', '6380', 1000, 10, log, 'secret');
  assert.deepEqual(Object.keys(reservation), FIELDS);
  assert.deepEqual(Reflect.ownKeys(reservation), FIELDS);
  assert.equal(reservation.by, 'worker');
  assert.equal(reservation.port, '6380');
  assert.equal(reservation.metadata, log);
  assert.equal(reservation.password, 'secret');
  assert.equal(reservation._lost_reservation, false);
});

test('absent arguments stay absent, or get the defaults of 0.4.0', () => {
  for (const reservation of [new ReserveResource(), new ReserveResource(...new Array(8).fill(null))]) {
    assert.deepEqual(Object.keys(reservation), FIELDS);
    assert.deepEqual(reservation.metadata, {});
    assert.equal(reservation.password, '');
    assert.equal(reservation.held, false);
    assert.equal(reservation.signal, undefined);
    assert.equal(reservation.is_held('anything'), false);
    assert.equal(reservation.is_held(undefined), false);
  }
});

test('identifier is JOB_ID, else the process id, read at construction', (t) => {
  t.after(() => delete process.env.JOB_ID);
  delete process.env.JOB_ID;
  assert.equal(new ReserveResource('a').identifier, process.pid);
  process.env.JOB_ID = 'job-7';
  const reservation = new ReserveResource('a');
  process.env.JOB_ID = 'job-8';
  assert.equal(reservation.identifier, 'job-7');
});

test('no argument makes the constructor throw', () => {
  const hostile = Object.create(null);
  for (const value of [Symbol('x'), hostile, () => {}, NaN, -1, 10n, new Proxy({}, {})]) {
    const reservation = new ReserveResource(value, value, value, value, value, value, value, value);
    assert.equal(reservation.by, value);
    assert.doesNotThrow(() => reservation._init_redis());
  }
});

test('the constructor may be called without new: as a function, or as a member of the module', () => {
  const bare = ReserveResource;
  assert.ok(bare('a') instanceof ReserveResource);
  assert.ok(ReserveResource.call(undefined, 'a') instanceof ReserveResource);
  assert.ok(ReserveResource.ReserveResource('a') instanceof ReserveResource);
  assert.equal(globalThis.by, undefined);
  const own = { mine: true };
  assert.equal(ReserveResource.call(own, 'a'), undefined);
  assert.equal(own.by, 'a');
});

test('every class system can extend the constructor', () => {
  class Modern extends ReserveResource {
    held_by = 'me';
    constructor(...args) {
      super(...args);
      // A subclass may still use the names that are new in 1.x.
      this.held = 'yes';
      this.signal = 'SIGTERM';
      this.options = { anything: 1 };
    }
  }
  const modern = new Modern('modern', 'h');
  assert.ok(modern instanceof ReserveResource);
  assert.deepEqual([modern.by, modern.held, modern.signal], ['modern', 'yes', 'SIGTERM']);

  function Old(...args) {
    ReserveResource.apply(this, args);
  }
  util.inherits(Old, ReserveResource);
  const old = new Old('old', 'h', 1);
  assert.ok(old instanceof ReserveResource);
  assert.equal(old.port, 1);
  assert.equal(typeof old.lock, 'function');

  function Older() {}
  Older.prototype = new ReserveResource('shared', 'h');
  const older = new Older();
  assert.equal(older.by, 'shared');

  const reflected = Reflect.construct(ReserveResource, ['r'], Old);
  assert.ok(reflected instanceof Old);
  assert.equal(reflected.by, 'r');
});

for (const version of [1, 2]) {
  test(`CoffeeScript ${version} extends it`, async (t) => {
    const child = startChild(t, require.resolve('./face/classes.coffee'), { coffee: version });
    const { code } = await child.exited;
    assert.equal(code, 0, child.stderr);
    assert.deepEqual(JSON.parse(child.stdout), {
      by: 'worker',
      bare: 'bare',
      payload: 5,
      instance: true,
      statics: ['_name'],
      overridden: 'mine',
      inherited: 'function',
    });
  });
}

test('on, once and emit work without a call of the emitter’s constructor', () => {
  const reservation = new ReserveResource('a');
  const heard = [];
  reservation.on('lost', (value) => heard.push(value));
  reservation.once('lost', (value) => heard.push(-value));
  reservation.emit('lost', 1);
  reservation.emit('lost', 2);
  assert.deepEqual(heard, [1, -1, 2]);
  assert.equal(new ReserveResource('b').listenerCount('lost'), 0);
});

test('the module is its own default export, has named exports, and none that is enumerable', async () => {
  assert.equal(ReserveResource.default, ReserveResource);
  assert.equal(ReserveResource.ReserveResource, ReserveResource);
  assert.deepEqual(Object.keys(ReserveResource), []);
  const namespace = await import('../index.js');
  assert.equal(namespace.default, ReserveResource);
  assert.equal(namespace.ReserveResource, ReserveResource);
  for (const name of Object.getOwnPropertyNames(ReserveResource).filter((own) => own.endsWith('Error'))) {
    assert.equal(namespace[name], ReserveResource[name], name);
    assert.ok(ReserveResource[name].prototype instanceof Error, name);
    assert.equal(ReserveResource[name].prototype.name, name);
  }
  // A subclass may export itself in the same way.
  class Worker extends ReserveResource {}
  Worker.default = Worker;
  assert.equal(Worker.default, Worker);
  assert.equal(ReserveResource.default, ReserveResource);
});

test('printing an instance hides the password, and changes nothing', () => {
  class Worker extends ReserveResource {}
  const reservation = new Worker('worker', 'host', 1, 1000, 10, false, 'p4ssw0rd', { max_hold: 5 });
  reservation._init_redis();
  reservation.friend = { reservation };
  const before = Reflect.ownKeys(reservation);
  for (const options of [{}, { depth: null }, { showHidden: true, depth: 9 }, { compact: false }]) {
    const text = util.inspect(reservation, options);
    assert.ok(text.startsWith('Worker {') || text.startsWith('<ref *1> Worker {'), text);
    assert.match(text, /password: '\[hidden\]'/);
    assert.doesNotMatch(text, /p4ssw0rd/);
  }
  assert.doesNotMatch(util.format('%o %O %j', reservation, reservation, { by: reservation.by }), /p4ssw0rd/);
  assert.doesNotMatch(util.inspect({ nested: [reservation] }, { depth: 9 }), /p4ssw0rd/);
  assert.match(util.inspect(reservation, { depth: null }), /Circular/);
  delete reservation.friend;
  assert.equal(JSON.parse(JSON.stringify(reservation)).password, '[hidden]');
  assert.equal(JSON.parse(JSON.stringify({ deep: { reservation } })).deep.reservation.by, 'worker');
  assert.equal(JSON.parse(JSON.stringify(new Worker('a'))).password, '');
  assert.equal(reservation.password, 'p4ssw0rd');
  assert.deepEqual(
    Reflect.ownKeys(reservation),
    before.filter((key) => key !== 'friend'),
  );
});

test('_init_redis sets one handle for each endpoint, and replaces it when the fields change', () => {
  const one = new ReserveResource('a', 'host', 6380, 0, 1, null, 'p4ssw0rd');
  const other = new ReserveResource('b', 'host', '6380', 0, 1, null, 'p4ssw0rd');
  one._init_redis();
  other._init_redis();
  assert.equal(one._redis, other._redis);
  for (const method of ['quit', 'end', 'unref', 'ref']) assert.equal(typeof one._redis[method], 'function');
  assert.doesNotMatch(util.inspect(one._redis, { showHidden: true, depth: 9 }), /p4ssw0rd/);
  const before = one._redis;
  one.password = 'another';
  one._init_redis();
  assert.notEqual(one._redis, before);
  const theirs = {};
  one._redis = theirs;
  one._init_redis();
  assert.equal(one._redis, theirs);
});

test('quit, end, ref and unref of a handle before its first command', async (t) => {
  const reservation = new ReserveResource('a', '127.0.0.1', 1);
  reservation._init_redis();
  const { _redis } = reservation;
  assert.equal(await _redis.quit(), 'OK');
  assert.deepEqual(await new Promise((resolve) => _redis.quit((...answer) => resolve(answer))), [null, 'OK']);
  assert.equal(_redis.end(), undefined);
  assert.equal(_redis.unref(), _redis);
  const wrong = new ReserveResource('a', {}, 1);
  wrong._init_redis();
  await assert.rejects(wrong._redis.quit(), { code: 'ERR_INVALID_ARG_TYPE' });

  const code = `const R = require('./index.js'); const r = new R('a'); r._init_redis(); r._redis.ref();
    process.on('message', () => { r._redis.unref(); process.disconnect(); }); process.send('up'); `;
  const child = startChild(t, { code });
  await child.message();
  assert.equal(child.ended, undefined);
  child.process.send('let go');
  assert.equal((await child.exited).code, 0);
});
