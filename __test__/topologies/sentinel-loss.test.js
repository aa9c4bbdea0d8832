// A failover that is longer than the lease: each loss is reported once, in time by our clock, and no key is set again; waits
// outlast it, and a lock meanwhile ends with an error.
'use strict';

const assert = require('node:assert/strict');
const { test } = require('node:test');
const { until, within } = require('../support/wait');
const { keepLog } = require('../support/reservation');
const { Crew, now, overlapsOf } = require('./support/crew');
const { keyOf, startSteadySentinels, throughSentinels, valuesOn } = require('./support/through-sentinels');

const ttl = 1;
const resources = Array.from({ length: 10 }, (_, index) => `job ${index}`);
/** The tolerance for a busy machine, in ms. */
const margin = 400;

for (const [title, strike] of [
  ['killed', (master) => master.kill()],
  ['hung', (master) => master.pause()],
]) {
  test(`a master that is ${title}, and leases that end before there is a new master`, async (t) => {
    const kit = await startSteadySentinels(t, { downAfter: 1500 });
    const first = await kit.master();
    const log = keepLog();
    const settings = { ttl, interval: 150 };
    const holders = new Crew('a holder', () => throughSentinels(t, kit, { ...settings, log }), resources);
    const waiters = new Crew('a waiter', () => throughSentinels(t, kit, settings), resources.slice(0, 5));
    await holders.take();
    const waiting = waiters.wait(undefined, { signal: t.signal });
    waiting.catch(() => {});
    await until(() => log.of('reservation-extended').length >= 3 * resources.length, { what: 'renewals' });

    await strike(first);
    const struck = performance.now();
    await until(() => holders.losses.length >= resources.length, { what: 'the losses' });
    const told = performance.now();
    assert.deepEqual(holders.held, [], 'nothing is believed to be held any more');
    // The last confirmed renewal began at most an interval before its log line, and no lock counts as held after its ttl.
    const confirmed = log.of('reservation-extended').at(-1).at;
    const longest = confirmed - performance.now() + now() + 1000 * ttl;
    for (const { at, message } of holders.losses) {
      assert.match(message, /^Worker worker-\S+ lost reservation for reservation-job \d$/);
      assert.ok(at <= longest + margin, `not later than the lease: ${at - longest} ms after its end`);
    }
    assert.ok(told - struck > 1000 * ttl - 2 * settings.interval - margin, 'and not before its end');

    // An error, unless the new master comes while the lock still tries.
    const newcomer = throughSentinels(t, kit, { ttl, interval: Infinity });
    const outcome = newcomer.lock('new').catch((error) => error);
    const error = await within(10000, outcome, 'the answer to a newcomer');
    if (error !== true) assert.match(error.code, /^ERR_REDIS_(CONNECTION|TIMEOUT)$/, error.message);

    const second = await kit.waitForFailover(first);
    await within(20000, waiting, 'the locks of the waiters');
    const served = performance.now();
    assert.equal(waiters.held.length, waiters.resources.length);
    assert.deepEqual(await valuesOn(second, waiters.resources), waiters.values);
    // These later calls used the same connection, and would have revived the keys.
    assert.deepEqual(
      await valuesOn(second, resources.slice(5)),
      resources.slice(5).map(() => null),
    );
    assert.deepEqual(holders.held, []);
    assert.equal(await holders.release(), 0, 'nothing to free');
    assert.equal(holders.losses.length, resources.length, 'each loss is reported once');
    assert.deepEqual(overlapsOf([...holders.tenures, ...waiters.tenures]), []);
    assert.equal(log.of('reservation-lost').length, resources.length);
    assert.equal(await waiters.release(), waiters.resources.length);
    await holders.take();
    assert.equal(holders.held.length, resources.length, 'and they can lock again');
    assert.equal(await second.command('EXISTS', ...resources.map(keyOf)), resources.length);
    t.diagnostic(
      `told ${Math.round(told - struck)} ms after it, the waiters have it ${Math.round(served - struck)} ms after it`,
    );
  });
}
