// Servers and sentinels that close each connection at the first command: how often the client reconnects, and how soon it uses
// them again. (Nodes of a cluster: cluster-closing.test.js.)
'use strict';

const assert = require('node:assert/strict');
const { test } = require('node:test');
const { setTimeout: sleep } = require('node:timers/promises');
const { makeReservation } = require('../support/reservation');
const { until, within } = require('../support/wait');
const { startClosing } = require('./support/closing');
const { startNode } = require('./support/node');
const { startSentinels } = require('./support/sentinels');
const { throughSentinels } = require('./support/through-sentinels');

const closesFor = 3000;

/** Twenty callers who lock all the time. */
function useAll(t, make) {
  let going = true;
  const use = async (number) => {
    const reservation = make();
    while (going) {
      await reservation.lock(`used ${number}`).catch(() => {});
      await reservation.release().catch(() => {});
      await sleep(5);
    }
  };
  const users = Array.from({ length: 20 }, (_, number) => use(number));
  const stop = () => {
    going = false;
    return within(10000, Promise.all(users));
  };
  t.after(stop);
  return stop;
}

for (const how of ['close', 'reset', 'garbage']) {
  test(`a server that ends each connection by ${how} gets a few connections a second, and is used again at once`, async (t) => {
    const node = await startNode(t);
    const way = await startClosing(t, node.port);
    const make = () => makeReservation(t, way, { ttl: 30, options: { command_timeout: 1000 } });
    way.host = node.host;
    const waiter = make();
    const holder = makeReservation(t, node);
    assert.equal(await holder.lock('awaited'), true);
    const stop = useAll(t, make);
    const waiting = waiter.wait_until_lock('awaited', { signal: t.signal });
    waiting.catch(() => {});
    await sleep(100);
    const earlier = way.accepted;
    way.close({ how });
    await sleep(closesFor);
    const connects = way.accepted - earlier;
    way.heal();
    const healed = performance.now();
    await until(() =>
      make()
        .lock('again')
        .catch(() => false),
    );
    const back = performance.now() - healed;
    await stop();
    t.diagnostic(`${connects} connections, back after ${back.toFixed(0)} ms`);
    // The pause between two of them is at least an eighth of a second, except at first.
    assert.ok(connects >= 4 && connects < 8 * (closesFor / 1000) + 12, `${connects} connections`);
    assert.ok(back < 1000, `${back} ms`);
    assert.equal(await holder.release(), 1);
    await within(5000, waiting);
  });
}

test('a sentinel that closes each connection gets about one a second, while another one names the master', async (t) => {
  const kit = await startSentinels(t, { replicas: 0, sentinels: 1 });
  const [sentinel] = kit.sentinels;
  const way = await startClosing(t, sentinel.port);
  way.close();
  const sentinels = [{ host: sentinel.host, port: way.port }, ...kit.addresses];
  const make = () => throughSentinels(t, kit, { ttl: 30, options: { sentinels } });
  const stop = useAll(t, make);
  await until(() => way.accepted > 0);
  const earlier = way.accepted;
  await sleep(closesFor);
  const connects = way.accepted - earlier;
  await stop();
  t.diagnostic(`${connects} connections`);
  assert.ok(connects >= 1 && connects <= 2 * (closesFor / 1000) + 1, `${connects} connections`);
});
