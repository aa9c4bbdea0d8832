// wait_until_lock() where lock() is somebody else's: it takes the resource through that method, whatever the method does,
// and wakes in milliseconds where it can know what the method locks.
'use strict';

const assert = require('node:assert/strict');
const { AsyncLocalStorage } = require('node:async_hooks');
const { setTimeout: sleep } = require('node:timers/promises');
const { test } = require('node:test');
const util = require('node:util');
const { startChild } = require('./support/child');
const { commandCalls, countCommands } = require('./support/commands');
const { ReserveResource, makeReservation, ask, askError, keepLog } = require('./support/reservation');
const { startServer, freePort } = require('./support/server');
const { until, within } = require('./support/wait');

const key = 'reservation-prod-job';
const { lock: ours } = ReserveResource.prototype;

/** Ways of putting a namespace before each resource: each gives a reservation. */
const ways = {
  'a subclass'(t, server, settings) {
    class Own extends ReserveResource {
      lock(resource, callback) {
        return super.lock(`prod-${resource}`, callback);
      }
    }
    return makeReservation(t, server, { ...settings, Class: Own });
  },
  'an instance'(t, server, settings) {
    const reservation = makeReservation(t, server, settings);
    const { lock } = reservation;
    reservation.lock = (resource, callback) => lock.call(reservation, `prod-${resource}`, callback);
    return reservation;
  },
  'a bound method'(t, server, settings) {
    const reservation = ways['a subclass'](t, server, settings);
    reservation.lock = reservation.lock.bind(reservation);
    return reservation;
  },
  'util.inherits'(t, server, settings) {
    function Own(...args) {
      ReserveResource.apply(this, args);
    }
    util.inherits(Own, ReserveResource);
    Own.prototype.lock = function lock(resource, callback) {
      Own.super_.prototype.lock.call(this, `prod-${resource}`, (err, status) => callback(err, status));
    };
    return makeReservation(t, server, { ...settings, Class: Own });
  },
  'a mixin'(t, server, settings) {
    const Namespaced = (Base) =>
      class extends Base {
        lock = (resource, callback) => super.lock(`prod-${resource}`, callback);
      };
    return makeReservation(t, server, { ...settings, Class: Namespaced(ReserveResource) });
  },
  'an async method that passes the callback on'(t, server, settings) {
    class Own extends ReserveResource {
      async lock(resource, callback) {
        super.lock(`prod-${resource}`, callback);
      }
    }
    return makeReservation(t, server, { ...settings, Class: Own });
  },
  'an async method that returns the answer'(t, server, settings) {
    class Own extends ReserveResource {
      async lock(resource) {
        return super.lock(`prod-${resource}`);
      }
    }
    return makeReservation(t, server, { ...settings, Class: Own });
  },
  'an async method that does something before'(t, server, settings) {
    class Own extends ReserveResource {
      async lock(resource, callback) {
        await sleep(5);
        super.lock(`prod-${resource}`, callback);
      }
    }
    return makeReservation(t, server, { ...settings, Class: Own });
  },
  'a method that leaves the status out'(t, server, settings) {
    class Own extends ReserveResource {
      lock(resource, callback) {
        super.lock(`prod-${resource}`, (err) => callback(err));
      }
    }
    return makeReservation(t, server, { ...settings, Class: Own });
  },
  'a method that calls back twice'(t, server, settings) {
    class Own extends ReserveResource {
      lock(resource, callback) {
        super.lock(`prod-${resource}`, (...answer) => {
          callback(...answer);
          callback(null, !answer[1]);
        });
      }
    }
    return makeReservation(t, server, { ...settings, Class: Own });
  },
  'a Proxy'(t, server, settings) {
    return new Proxy(ways['a subclass'](t, server, settings), {});
  },
};

/** Resolves once the server has had one more SET. */
async function tried(client, tries = 1) {
  const before = (await commandCalls(client)).set || 0;
  await until(async () => ((await commandCalls(client)).set || 0) >= before + tries, { what: 'a try' });
}

for (const [who, make] of Object.entries(ways)) {
  test(`${who}: a wait has the key that lock has, and excludes`, async (t) => {
    const server = await startServer(t);
    const client = server.client();
    const [holder, waiter] = [make(t, server), make(t, server)];
    assert.deepEqual(await ask((done) => holder.wait_until_lock('job', done)), [null, key]);
    assert.equal(holder.held, true);
    const waiting = ask((done) => waiter.wait_until_lock('job', { timeout: 20000 }, done));
    await tried(client);
    assert.deepEqual(await client.keys('*'), [key]);
    assert.equal(waiter.held, false);
    await holder.release();
    assert.deepEqual(await within(5000, waiting), [null, key]);
    assert.equal(await client.get(key), waiter._reserve_val);
    assert.equal(await waiter.release(), 1);
    assert.deepEqual(await client.keys('*'), []);
  });
}

test('a patched prototype of this package', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  t.after(() => (ReserveResource.prototype.lock = ours));
  ReserveResource.prototype.lock = function lock(resource, callback) {
    return ours.call(this, `prod-${resource}`, callback);
  };
  const reservation = makeReservation(t, server);
  assert.equal(await reservation.wait_until_lock('job'), key);
  assert.deepEqual(await client.keys('*'), [key]);
});

test('it excludes against lock(), and the method is called in the context of the wait', async (t) => {
  const server = await startServer(t);
  const storage = new AsyncLocalStorage();
  const seen = [];
  class Own extends ReserveResource {
    lock(resource, callback) {
      seen.push([resource, storage.getStore()]);
      storage.enterWith('left behind');
      return super.lock(`prod-${resource}`, callback);
    }
  }
  const [holder, waiter] = [1, 2].map(() => makeReservation(t, server, { Class: Own }));
  await storage.run('holder', () => holder.lock('job'));
  seen.length = 0;
  const waiting = storage.run('waiter', () =>
    waiter.wait_until_lock('job').then((had) => [had, storage.getStore()]),
  );
  await until(() => seen.length >= 2, { what: 'a second call' });
  await holder.release();
  assert.equal((await within(5000, waiting))[0], key);
  assert.deepEqual(new Set(seen.map(String)), new Set(['job,waiter']));
});

for (const who of ['a subclass', 'an instance', 'an async method that returns the answer', 'a Proxy']) {
  test(`${who}: it wakes in milliseconds, whoever frees the key`, async (t) => {
    const server = await startServer(t);
    const client = server.client();
    const waiter = ways[who](t, server);
    await waiter.lock('warm-up');
    const times = [];
    for (let round = 0; round < 7; round += 1) {
      await client.set(key, 'other', 'EX', 600);
      const before = (await commandCalls(client)).set;
      const waiting = waiter.wait_until_lock('job');
      // The turn's own, and that of the native waiter behind it.
      await until(async () => (await commandCalls(client)).set >= before + 2, { what: 'two tries' });
      const start = performance.now();
      if (round % 2) await client.del(key);
      else await client.pexpire(key, 1);
      assert.equal(await within(5000, waiting), key);
      times.push(performance.now() - start);
      assert.equal(await client.get(key), waiter._reserve_val);
      assert.equal(await waiter.release('prod-job'), 1);
    }
    times.sort((one, other) => one - other);
    assert.ok(times[3] < 150, `median ${times[3]} ms of ${times.map(Math.round)}`);
  });
}

test('waiters of one process are served first come, first served, also across their turns', async (t) => {
  const server = await startServer(t);
  const make = () => ways['a subclass'](t, server);
  const holder = make();
  await holder.lock('job');
  const served = [];
  const waits = [];
  for (let number = 0; number < 5; number += 1) {
    const reservation = make();
    const joined = tried(server.client());
    waits.push(
      reservation.wait_until_lock('job').then(() => {
        served.push(number);
        return reservation.release();
      }),
    );
    await joined;
  }
  // Each has had turns meanwhile, and kept its place.
  await tried(server.client(), 12);
  assert.deepEqual(served, []);
  await holder.release();
  await within(5000, Promise.all(waits));
  assert.deepEqual(served, [0, 1, 2, 3, 4]);
});

test('what the instance holds by that name comes at once, and nothing is sent', async (t) => {
  const server = await startServer(t);
  const reservation = ways['a subclass'](t, server);
  await reservation.lock('job');
  await reservation.lock('other');
  const { calls } = await countCommands(server.client(), async () => {
    assert.equal(await reservation.wait_until_lock('job'), key);
    assert.equal(await reservation.wait_until_lock('job', { timeout: 0 }), key);
  });
  assert.deepEqual(calls, {});
  assert.equal(await reservation.release('prod-job'), 1);
});

test('two waits of one instance for one resource: the second has what the first has', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  await client.set(key, 'other', 'EX', 600);
  const reservation = ways['a subclass'](t, server);
  const waits = [1, 2, 3].map(() => reservation.wait_until_lock('job'));
  await tried(client, 2);
  const start = performance.now();
  await client.del(key);
  assert.deepEqual(await within(5000, Promise.all(waits)), [key, key, key]);
  assert.ok(performance.now() - start < 900, 'no poll');
  assert.equal(await reservation.release(), 1);
});

test('a timeout ends the wait; 0 tries once, and what is free is had', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  const reservation = ways['a subclass'](t, server);
  assert.equal(await reservation.wait_until_lock('job', { timeout: 0 }), key);
  const other = ways['a subclass'](t, server);
  for (const timeout of [0, 300, 1500]) {
    const start = performance.now();
    const error = await askError((done) => other.wait_until_lock('job', { timeout }, done));
    const passed = performance.now() - start;
    assert.equal(error.code, 'ERR_RESERVATION_TIMEOUT');
    assert.match(error.message, new RegExp(`${timeout} ms for ${key}`));
    assert.equal(error.key, key);
    assert.ok(passed >= timeout - 5 && passed < timeout + 1000, `${passed} ms`);
  }
  await reservation.release();
  assert.equal(await client.exists(key), 0, 'nobody takes it who has left');
  await tried(client, 0);
  assert.equal(other.held, false);
});

test('a signal ends the wait; what the method takes after that goes back', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  const reason = new Error('no longer wanted');
  const waiter = ways['a subclass'](t, server);
  await client.set(key, 'other', 'EX', 600);
  const controller = new AbortController();
  const waiting = askError((done) => waiter.wait_until_lock('job', { signal: controller.signal }, done));
  await tried(client, 2);
  controller.abort(reason);
  assert.equal(await within(1000, waiting), reason);
  await client.del(key);
  await assert.rejects(waiter.wait_until_lock('job', { signal: AbortSignal.abort(reason) }), reason);

  for (const delay of [0, 30]) {
    for (let round = 0; round < 20; round += 1) {
      class Slow extends ReserveResource {
        async lock(resource) {
          if (delay > 0) await sleep(delay);
          return super.lock(`prod-${resource}`);
        }
      }
      const slow = makeReservation(t, server, { Class: Slow });
      const late = new AbortController();
      const answer = slow.wait_until_lock('job', { signal: late.signal }).catch((error) => error);
      if (round % 2) setImmediate(() => late.abort(reason));
      else late.abort(reason);
      const got = await answer;
      if (got === reason) {
        // Only once the method has gone its way.
        await sleep(delay * 2);
        await until(async () => !slow.held && !(await client.exists(key)), { what: 'a free key' });
      } else {
        assert.equal(got, key);
        assert.equal(await slow.release(), 1);
      }
    }
  }
});

for (const [what, answer, pattern] of [
  ['an error', (callback) => callback(new Error('mine')), /^mine$/],
  [
    'an exception',
    () => {
      throw new Error('mine');
    },
    /^mine$/,
  ],
  ['a rejected promise', () => Promise.reject(new Error('mine')), /^mine$/],
  ['a rejected promise without a reason', () => Promise.reject(), /overridden lock threw undefined/],
  [
    'an exception that is null',
    () => {
      // eslint-disable-next-line no-throw-literal -- callers do.
      throw null;
    },
    /overridden lock threw null/,
  ],
]) {
  test(`${what} of the method ends the wait, in both shapes`, async (t) => {
    const nowhere = { host: '127.0.0.1', port: 1 };
    class Own extends ReserveResource {
      lock(_resource, callback) {
        return answer(callback);
      }
    }
    const log = keepLog();
    const reservation = makeReservation(t, nowhere, { Class: Own, log });
    const error = await askError((done) => reservation.wait_until_lock('job', done));
    assert.match(error.message, pattern);
    await assert.rejects(reservation.wait_until_lock('job'), { message: pattern });
    assert.equal(log.of('reservation-failed').length, 2);
  });
}

test('a method that waits by wait_until_lock, and one that is none', async (t) => {
  const server = await startServer(t);
  class Round extends ReserveResource {
    lock(resource, callback) {
      return super.wait_until_lock(`w-${resource}`, callback);
    }
  }
  class LaterRound extends ReserveResource {
    async lock(resource) {
      await null;
      return super.wait_until_lock(`w-${resource}`);
    }
  }
  for (const Class of [Round, LaterRound]) {
    await assert.rejects(within(5000, makeReservation(t, server, { Class }).wait_until_lock('job')), {
      code: 'ERR_INVALID_ARG_VALUE',
      message: /calls wait_until_lock, which waits by calling lock.*inherited lock/,
    });
  }
  const reservation = makeReservation(t, server);
  reservation.lock = 5;
  await assert.rejects(reservation.wait_until_lock('job'), {
    code: 'ERR_INVALID_ARG_TYPE',
    message: 'lock must be a method; it is 5.',
  });
});

test('a method that waits for another resource before, by the same method', async (t) => {
  const server = await startServer(t);
  class Ordered extends ReserveResource {
    async lock(resource) {
      if (resource !== 'first') await this.wait_until_lock('first');
      return super.lock(`prod-${resource}`);
    }
  }
  const reservation = makeReservation(t, server, { Class: Ordered });
  await within(5000, reservation.wait_until_lock('job'));
  assert.deepEqual((await server.client().keys('*')).sort(), ['reservation-prod-first', key]);
});

test('a method that never answers: the timeout counts, and the process waits', async (t) => {
  const code = `
    const ReserveResource = require('./index.js');
    class Own extends ReserveResource { lock() {} }
    const reservation = new Own('me', '127.0.0.1', 1, 0, 30, false);
    reservation.wait_until_lock('job', () => console.log('answered'));
    process.on('message', () => {
      reservation.wait_until_lock('job', { timeout: 100 }, (error) => process.send({ code: error.code }, () => process.exit()));
    });
    process.channel.unref();
    process.send({ up: true });`;
  const child = startChild(t, { code });
  await child.message({ up: true });
  await sleep(1500);
  assert.equal(child.ended, undefined, 'it waits');
  child.send('with a timeout');
  assert.deepEqual(await child.message(), { code: 'ERR_RESERVATION_TIMEOUT' });
  assert.equal(child.stdout, '');
});

test('after it there is nothing that keeps the process alive', async (t) => {
  const server = await startServer(t);
  const code = `
    const ReserveResource = require('./index.js');
    class Own extends ReserveResource { lock(resource, callback) { return super.lock('prod-' + resource, callback); } }
    const { REDIS_HOST, REDIS_PORT } = process.env;
    const [one, other] = [1, 2].map(() => new Own('me', REDIS_HOST, REDIS_PORT, 0, 30, false));
    (async () => {
      await one.wait_until_lock('job', { timeout: 3600000 });
      await other.wait_until_lock('job', { timeout: 50 }).catch((error) => console.log(error.code));
      process.disconnect();
    })();`;
  const start = performance.now();
  const child = startChild(t, { code }, { env: server.environment });
  assert.deepEqual(await child.exit(), { code: 0, signal: null });
  assert.equal(child.stdout, 'ERR_RESERVATION_TIMEOUT\n');
  assert.ok(performance.now() - start < 9000);
});

test('an outage is waited out; a first connection that fails and a wrong password are errors', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  await client.set(key, 'other', 'EX', 600);
  const waiter = ways['a subclass'](t, server);
  const waiting = waiter.wait_until_lock('job');
  await tried(client, 2);
  await server.restart({ data: true, down: 2500 });
  await tried(client);
  assert.equal(waiter.held, false);
  await client.del(key);
  assert.equal(await within(10000, waiting), key);
  assert.equal(await client.get(key), waiter._reserve_val);

  const nowhere = { host: '127.0.0.1', port: await freePort() };
  await assert.rejects(within(5000, ways['a subclass'](t, nowhere).wait_until_lock('job')), {
    code: 'ERR_REDIS_CONNECTION',
  });
  const guarded = await startServer(t, { password: 'right' });
  await assert.rejects(ways['a subclass'](t, guarded, { password: 'wrong' }).wait_until_lock('job'), {
    code: 'ERR_REDIS_AUTH',
  });
});

/** Holds two keys or none. */
class Pair extends ReserveResource {
  async lock(resource) {
    if (!(await super.lock(`left-${resource}`))) return false;
    if (await super.lock(`right-${resource}`)) return true;
    await this.release(`left-${resource}`);
    return false;
  }
}

test('a method that locks two names: the wait has both or none', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  for (const side of ['left', 'right']) {
    await client.set(`reservation-${side}-job`, 'other', 'EX', 600);
    const reservation = makeReservation(t, server, { Class: Pair });
    const waiting = reservation.wait_until_lock('job');
    await tried(client, 2);
    assert.equal(reservation.held, false);
    await client.del(`reservation-${side}-job`);
    await within(5000, waiting);
    assert.deepEqual([reservation.is_held('left-job'), reservation.is_held('right-job')], [true, true]);
    assert.equal(await reservation.release(), 2);
  }
  // Left behind by a method that does not clear up, one of them is not both.
  class Careless extends ReserveResource {
    async lock(resource) {
      return (await super.lock(`left-${resource}`)) && super.lock(`right-${resource}`);
    }
  }
  await client.set('reservation-right-job', 'other', 'EX', 600);
  const careless = makeReservation(t, server, { Class: Careless });
  await assert.rejects(careless.wait_until_lock('job', { timeout: 2500 }), {
    code: 'ERR_RESERVATION_TIMEOUT',
  });
  assert.equal(await careless.release(), 1);
  await client.del('reservation-right-job');
  // An instance that holds one of them already has not what it waits for.
  const reservation = makeReservation(t, server, { Class: Pair });
  await client.set('reservation-left-job', 'other', 'EX', 600);
  await ours.call(reservation, 'right-job');
  await assert.rejects(reservation.wait_until_lock('job', { timeout: 1200 }), {
    code: 'ERR_RESERVATION_TIMEOUT',
  });
});

test('a method that takes the lock and is not content: false is false, also while it is held', async (t) => {
  const server = await startServer(t);
  let is_leader = false;
  class Own extends ReserveResource {
    lock(resource, callback) {
      super.lock(`prod-${resource}`, (err, status) => callback(err, status && is_leader));
    }
  }
  const reservation = makeReservation(t, server, { Class: Own });
  await assert.rejects(reservation.wait_until_lock('job', { timeout: 2500 }), {
    code: 'ERR_RESERVATION_TIMEOUT',
  });
  assert.equal(await reservation.release(), 1);
  is_leader = true;
  assert.equal(await reservation.wait_until_lock('job'), key);
});

test('a lock that was taken before the abort, by a method that has not answered, goes back', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  let taken = () => {};
  const has_taken = new Promise((resolve) => (taken = resolve));
  class Own extends ReserveResource {
    async lock(resource) {
      await super.lock(`prod-${resource}`);
      taken();
      return new Promise(() => {});
    }
  }
  const reservation = makeReservation(t, server, { Class: Own });
  const controller = new AbortController();
  const waiting = reservation.wait_until_lock('job', { signal: controller.signal });
  await has_taken;
  assert.equal(reservation.held, true);
  controller.abort();
  await assert.rejects(waiting, { name: 'AbortError' });
  await until(async () => !(await client.exists(key)), { what: 'a free key' });
  assert.equal(reservation.held, false);
});

test('what another wait of the instance was answered with does not go back by the abort of the first', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  let turns = 0;
  class Own extends ReserveResource {
    async lock(resource) {
      const status = await super.lock(`prod-${resource}`);
      turns += 1;
      return turns === 1 ? new Promise(() => {}) : status;
    }
  }
  const reservation = makeReservation(t, server, { Class: Own });
  const controller = new AbortController();
  const first = reservation.wait_until_lock('job', { signal: controller.signal });
  await until(() => turns === 1, { what: 'the first turn' });
  assert.equal(await reservation.wait_until_lock('job'), key);
  controller.abort();
  await assert.rejects(first, { name: 'AbortError' });
  assert.equal(reservation.held, true);
  assert.equal(await client.get(key), reservation._reserve_val);
  assert.equal(await reservation.release(), 1);
});

test('one of several names: the wait has the first that is free', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  class Slots extends ReserveResource {
    async lock(resource) {
      for (const slot of [1, 2, 3]) if (await super.lock(`${resource}-${slot}`)) return true;
      return false;
    }
  }
  const holders = [1, 2, 3].map(() => makeReservation(t, server, { Class: Slots }));
  for (const holder of holders) await holder.wait_until_lock('slot');
  assert.equal((await client.keys('*')).length, 3);
  const waiter = makeReservation(t, server, { Class: Slots });
  const waiting = waiter.wait_until_lock('slot');
  await tried(client, 3);
  await holders[1].release();
  assert.equal(await within(5000, waiting), 'reservation-slot-2');
});

test('what was acquired for a turn that does not ask for it goes back at once, and not again each moment', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  let paused = false;
  class Own extends ReserveResource {
    lock(resource, callback) {
      if (paused) setImmediate(callback, null, false);
      else super.lock(`prod-${resource}`, callback);
    }
  }
  await client.set(key, 'other', 'EX', 600);
  const waiter = makeReservation(t, server, { Class: Own });
  const waiting = waiter.wait_until_lock('job');
  await tried(client, 2);
  paused = true;
  const { calls } = await countCommands(client, async () => {
    await client.del(key);
    await until(async () => (await commandCalls(client)).evalsha >= 1, { what: 'it to go back' });
    await sleep(1200);
    assert.equal(await client.exists(key), 0);
  });
  assert.ok(calls.set <= 2, `${calls.set} tries`);
  assert.equal(waiter.held, false);
  assert.equal('_reserve_key' in waiter, false);
  paused = false;
  assert.equal(await within(5000, waiting), key);
});

test('waiting costs two tries a second; its lines are those of 0.4.0', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  await client.set(key, 'other', 'EX', 600);
  const log = keepLog();
  const waiter = ways['a subclass'](t, server, { log });
  const { calls } = await countCommands(client, () =>
    assert.rejects(waiter.wait_until_lock('job', { timeout: 3500 })),
  );
  assert.ok(calls.set >= 4 && calls.set <= 9, `${calls.set} tries`);
  const [attempted, attempts] = [log.of('reservation-attempted'), log.of('reservation-attempt')];
  assert.equal(attempted.length, attempts.length);
  assert.ok(attempts.length >= 3 && attempts.length <= 4, `${attempts.length} turns`);
  assert.deepEqual([attempted[0].resource, attempts[0].resource], ['prod-job', 'job']);
  await client.del(key);
  await waiter.wait_until_lock('job');
  assert.deepEqual(
    log.of('reservation-acquired').map(({ resource, key: name }) => [resource, name]),
    [['job', key]],
  );
});
