// The constructor: every way of making classes extends it, it starts nothing, and printing an instance hides the password.
'use strict';

const assert = require('node:assert/strict');
const fs = require('node:fs');
const { test } = require('node:test');
const util = require('node:util');
const { startChild } = require('./support/child');
const { ReserveResource, callingMethods, makeReservation } = require('./support/reservation');
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

for (const version of [1, 2]) {
  test(`CoffeeScript ${version}: a subclass with super calls`, async (t) => {
    const server = await startServer(t);
    const child = startChild(t, '__test__/classes/subclass.coffee', {
      env: server.environment,
      coffee: version,
    });
    const { val, ...seen } = await child.message();
    assert.match(val, new RegExp(`^coffee-${child.pid}-[0-9a-f]{32}$`));
    assert.deepEqual(seen, {
      answer: [true, 'own field'],
      held: true,
      key: 'reservation-job',
      instance: true,
      described: `coffee at ${server.port}`,
      own: 'own field',
      released: 1,
      reserve_key: 'reservation-job',
    });
    assert.equal(child.stderr, '');
  });
}

/** Acquires and releases a lock. In between, the value in redis must be this instance's. */
async function work(server, reservation, by) {
  const client = server.client();
  assert.ok(reservation instanceof ReserveResource);
  assert.equal(await reservation.lock('job'), true);
  assert.ok((await client.get('reservation-job')).startsWith(`${by}-${process.pid}-`));
  assert.equal(reservation.held, true);
  assert.equal(await reservation.release(), 1);
  assert.equal(await reservation.wait_until_lock('job'), 'reservation-job');
  assert.equal(await reservation.release(), 1);
  client.disconnect();
}

test('ES6 extends', async (t) => {
  const server = await startServer(t);
  class Own extends ReserveResource {
    #secret = 'private';
    constructor(name) {
      super(name, server.host, server.port, 1000, 30, false);
      this.own = 'field';
    }

    lock(resource, callback) {
      this.seen = this.#secret;
      return super.lock(resource, callback);
    }
  }
  class Further extends Own {}
  for (const Class of [Own, Further]) {
    const reservation = new Class('es6');
    await work(server, reservation, 'es6');
    assert.deepEqual([reservation.own, reservation.seen], ['field', 'private']);
    assert.equal(Object.getPrototypeOf(reservation), Class.prototype);
  }
});

test('util.inherits and a call of the constructor', async (t) => {
  const server = await startServer(t);
  function Own(by) {
    ReserveResource.call(this, by, server.host, server.port, 1000, 30, false);
    this.own = true;
  }
  util.inherits(Own, ReserveResource);
  const reservation = new Own('es5');
  assert.deepEqual(Object.keys(reservation), [...fields, 'own']);
  await work(server, reservation, 'es5');

  function Applied(...args) {
    ReserveResource.apply(this, args);
  }
  Applied.prototype = Object.create(ReserveResource.prototype);
  await work(server, new Applied('applied', server.host, server.port, 1000, 30, false), 'applied');
});

test('Reflect.construct, bind and a Proxy', async (t) => {
  const server = await startServer(t);
  const args = (by) => [by, server.host, server.port, 1000, 30, false];
  class Target extends ReserveResource {}
  const reflected = Reflect.construct(ReserveResource, args('reflected'), Target);
  assert.equal(Object.getPrototypeOf(reflected), Target.prototype);
  await work(server, reflected, 'reflected');
  const Bound = ReserveResource.bind(null, 'bound', server.host, server.port);
  await work(server, new Bound(1000, 30, false), 'bound');
  await work(server, new Proxy(new ReserveResource(...args('proxied')), {}), 'proxied');
});

test('import by default, by name and as a namespace', async (t) => {
  const server = await startServer(t);
  const child = startChild(t, '__test__/classes/import.mjs', { env: server.environment });
  assert.deepEqual(await child.message(), {
    same: true,
    name: 'ReserveResource',
    got: true,
    released: 1,
    known: true,
  });
});

test('require gives the constructor, with the named exports', () => {
  assert.equal(typeof ReserveResource, 'function');
  assert.deepEqual([ReserveResource.name, ReserveResource.length], ['ReserveResource', 7]);
  assert.equal(ReserveResource.default, ReserveResource);
  assert.equal(ReserveResource.ReserveResource, ReserveResource);
  assert.equal(ReserveResource.prototype.constructor, ReserveResource);
  // A sloppy function: class syntax has no `caller`, and cannot be called.
  assert.ok(!/^class/.test(Function.prototype.toString.call(ReserveResource)));
  const enumerable = [];
  for (const name in ReserveResource.prototype) enumerable.push(name);
  for (const name of [...callingMethods, '_init_redis']) {
    assert.equal(typeof ReserveResource.prototype[name], 'function', name);
    assert.ok(enumerable.includes(name), `${name} is enumerable`);
  }
});

test('the fields are own and enumerable, in order, with the values that were passed', () => {
  const metadata = { team: 'nightly' };
  const reservation = new ReserveResource('by', 'host', '6380', 1000, '30', metadata, 'secret');
  assert.deepEqual(Object.keys(reservation), fields);
  assert.deepEqual(
    fields.map((name) => reservation[name]),
    ['by', 'host', '6380', 1000, '30', metadata, 'secret', false, process.pid],
  );
  for (const name of fields) {
    reservation[name] = 'assigned';
    assert.equal(reservation[name], 'assigned', name);
  }
  const withOptions = new ReserveResource('by', 'host', 1, 1, 1, false, '', { max_hold: 1 });
  assert.deepEqual(Object.keys(withOptions), fields);
});

test('the constructor never throws', () => {
  const hostile = {
    toString() {
      throw new Error('hostile');
    },
    get max_hold() {
      throw new Error('hostile');
    },
  };
  for (const value of [
    undefined,
    null,
    '',
    NaN,
    -1,
    10n,
    Symbol('s'),
    {},
    [],
    () => {},
    hostile,
    true,
    Object.create(null),
  ]) {
    const args = new Array(8).fill(value);
    assert.ok(new ReserveResource(...args) instanceof ReserveResource);
    assert.ok(new ReserveResource(...args)._init_redis());
  }
  assert.ok(new ReserveResource() instanceof ReserveResource);
});

test(
  'constructing starts no thread and no connection, and loads nothing native',
  { skip: !fs.existsSync('/proc/self/task') },
  async (t) => {
    const server = await startServer(t);
    const client = server.client();
    await client.ping();
    const code = `
    const fs = require('fs');
    const look = () => ({
      threads: fs.readdirSync('/proc/self/task').length,
      native: fs.readFileSync('/proc/self/maps', 'latin1').includes('redis-reservation'),
    });
    const before = look();
    const ReserveResource = require('./index.js');
    const { REDIS_HOST, REDIS_PORT } = process.env;
    const make = () => new ReserveResource('me', REDIS_HOST, REDIS_PORT, 1000, 30, false, 'secret');
    const reservations = Array.from({ length: 1000 }, make);
    for (const reservation of reservations) reservation._init_redis();
    const after = look();
    reservations[0].password = '';
    reservations[0].lock('job', () => process.send({ before, after, used: look() }));`;
    const { before, after, used } = await startChild(t, { code }, { env: server.environment }).message();
    assert.deepEqual(after, before);
    assert.deepEqual([before.native, used.native], [false, true]);
    assert.equal(used.threads, before.threads + 1, 'one thread, at the first use');
  },
);

test('instances with equal credentials share one connection; others have their own', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  const clients = async () => (await client.client('LIST')).trim().split('\n').length;
  const before = await clients();
  const many = Array.from({ length: 100 }, (_, index) =>
    makeReservation(t, server, { by: `worker ${index}` }),
  );
  await Promise.all(many.map((reservation, index) => reservation.lock(`job ${index}`)));
  assert.equal(await clients(), before + 1);
  await Promise.all(many.map((reservation) => reservation.release()));
  await many[0].wait_until_lock('job');
  assert.equal(await clients(), before + 1);
  await client.acl('SETUSER', 'default', '>other');
  await makeReservation(t, server, { password: 'other' }).lock('other');
  assert.equal(await clients(), before + 2);
});

test('printing an instance hides the password; reading the field gives it', () => {
  const reservation = new ReserveResource('by', 'host', 6379, 1000, 30, false, 'hunter2');
  class Own extends ReserveResource {}
  const own = new Own('by', 'host', 6379, 1000, 30, false, 'hunter2');
  const plain = new ReserveResource('by', 'host', 6379, 1000, 30, false);
  for (const one of [reservation, own]) {
    one._init_redis();
    for (const text of [
      util.inspect(one),
      util.inspect(one, { depth: Infinity, showHidden: true }),
      util.format('%s %o %O %j', one, one, one, one),
      JSON.stringify(one),
      JSON.stringify({ nested: [one] }),
      util.inspect({ nested: one }),
      String(one),
      util.inspect(one._redis, { depth: Infinity, showHidden: true }),
      JSON.stringify(one._redis),
    ]) {
      assert.ok(!text.includes('hunter2'), text);
    }
    assert.match(util.inspect(one), /password: '\[hidden\]'/);
    assert.equal(JSON.parse(JSON.stringify(one)).password, '[hidden]');
    assert.equal(one.password, 'hunter2');
  }
  assert.match(util.inspect(own), /^Own \{/);
  assert.match(util.inspect(reservation), /^ReserveResource \{/);
  assert.match(util.inspect(reservation), /by: 'by'/);
  assert.ok(util.inspect(plain).includes("password: ''"));
  const enumerable = [];
  for (const name in reservation) enumerable.push(name);
  assert.ok(!enumerable.includes('toJSON'));
});

test('_init_redis returns the handle of the shared connection', async (t) => {
  const server = await startServer(t);
  const reservation = makeReservation(t, server);
  reservation._init_redis();
  const { _redis } = reservation;
  for (const name of ['quit', 'end', 'unref', 'ref']) assert.equal(typeof _redis[name], 'function', name);
  _redis.unref();
  const fresh = makeReservation(t, server);
  await fresh.lock('job');
  assert.ok(fresh._redis, 'a lock sets it, too');
  await fresh.release();
  await new Promise((resolve) => fresh._redis.quit(resolve));
  assert.equal(await fresh.lock('job'), true, 'the connection comes back when it is needed');
  fresh._redis.end();
  assert.equal(fresh.held, true, 'what is held is kept');
  assert.equal(await fresh.release(), 1);
});
