// Every fault of a torture run: its scope, its weight, and what it does. Each one restores the state before it, so that faults
// of different scopes can overlap.
'use strict';

const fs = require('node:fs');
const path = require('node:path');
const { setTimeout: sleep } = require('node:timers/promises');
const { now } = require('./clock');

/**
 * name -> { scope, weight, run(arena, random, target) }. Scopes: 'server'; 'link' and 'process' of one worker, the `target`. Two
 * faults with the same scope and target never overlap. `arena` is that of run.js: server, direct client, slots.
 *
 * Times fit the leases of instance.js (1.2 to 3 s): most faults leave a lease alive, some outlast it.
 */
const faults = {
  // Links: the proxy between one worker and redis.
  cut: link(4, async ({ proxy }) => proxy.cut()),
  reset: link(3, async ({ proxy }) => proxy.cut({ reset: true })),
  stall: link(4, async ({ proxy }, random) => {
    proxy.stall(random.pick(['up', 'down', 'both']));
    await sleep(outage(random));
    proxy.heal();
  }),
  lose: link(3, async ({ proxy }, random) => {
    proxy.lose(random.pick(['up', 'down', 'both']));
    await sleep(outage(random));
    // TCP never continues after a gap: a connection that has lost bytes is lost.
    proxy.cut();
    proxy.heal();
  }),
  delay: link(3, async ({ proxy }, random) => {
    proxy.delay(random.between(5, 250), { jitter: random.between(0, 200), seed: random.between(1, 1e6) });
    await sleep(random.between(300, 2500));
    proxy.heal();
  }),
  slice: link(2, async ({ proxy }, random) => {
    proxy.slice(random.between(1, 40));
    await sleep(random.between(100, 600));
    proxy.heal();
  }),
  corrupt: link(2, async ({ proxy }, random) => {
    // Bytes that no reply can begin with, or a reply that never ends. A valid but wrong reply could not be detected.
    proxy.corruptNext(
      random.pick(['\x00garbage\r\n', '$9999999999\r\n', 'HTTP/1.1 400 Bad Request\r\n\r\n']),
    );
    await sleep(random.between(50, 300));
    proxy.heal();
  }),
  truncate: link(2, async ({ proxy }, random) => {
    proxy.truncateNext(random.between(0, 6), random.pick(['up', 'down']));
    await sleep(random.between(50, 300));
    proxy.heal();
  }),
  'drop reply': link(5, async ({ proxy }, random) => {
    const dropped = proxy.dropReply(random.pick([/\bSET\r\n/i, /EVALSHA\r\n/i, /\bSET\r\n|EVALSHA\r\n/i]));
    await Promise.race([dropped, sleep(random.between(300, 1500))]);
    proxy.heal();
  }),
  'late request': link(5, async ({ proxy }, random) => {
    const held = proxy.holdRequest(random.pick([/\bSET\r\n/i, /EVALSHA\r\n/i]));
    const caught = await Promise.race([held.caught.then(() => true), sleep(random.between(300, 1500))]);
    proxy.heal();
    if (!caught) return;
    await sleep(random.between(0, 1500));
    held.deliver();
  }),
  refuse: link(2, async ({ gate, proxy }, random) => {
    gate.close();
    proxy.cut();
    await sleep(outage(random));
    await gate.open();
  }),

  // The server.
  pause: server(6, async (arena, random) => {
    arena.server.pause();
    await sleep(outage(random));
    arena.server.resume();
  }),
  crash: server(4, (arena, random) => restart(arena, random, { wipe: false })),
  wipe: server(1.5, (arena, random) => restart(arena, random, { wipe: true })),
  'forget scripts': server(1, (arena) => arena.direct.script('FLUSH')),
  'kill connections': server(1.5, async (arena) => {
    const own = await arena.direct.client('ID');
    for (const line of (await arena.direct.client('LIST')).split('\n')) {
      const [, id] = /\bid=(\d+)/.exec(line) || [];
      // All connections except this one and MONITOR's.
      if (id && Number(id) !== own && !line.includes(' flags=O '))
        await arena.direct.client('KILL', 'ID', id);
    }
  }),
  delete: server(1.5, async (arena, random) => {
    const key = random.pick(arena.keys);
    await theft(arena, 'delete', key, () => arena.direct.del(`reservation-${key}`));
  }),
  takeover: server(1.5, async (arena, random) => {
    const key = random.pick(arena.keys);
    const ms = random.between(50, 1500);
    await theft(arena, 'takeover', key, () => arena.direct.set(`reservation-${key}`, 'thief-1', 'PX', ms));
  }),
  flush: server(0.5, (arena) => theft(arena, 'flush', null, () => arena.direct.flushall())),

  // The processes.
  stop: aProcess(7, async ({ child }, random) => {
    child.pause();
    await sleep(random.chance(0.5) ? random.between(20, 800) : random.between(800, 4500));
    child.resume();
  }),
  kill: aProcess(3, async ({ child }) => {
    await child.kill();
  }),
};

function link(weight, run) {
  return { scope: 'link', weight, run: (arena, random, slot) => run(slot, random) };
}

function server(weight, run) {
  return { scope: 'server', weight, run };
}

function aProcess(weight, run) {
  return { scope: 'process', weight, run: (arena, random, slot) => run(slot, random) };
}

/** How long something is down: mostly less than a lease. */
function outage(random) {
  return random.chance(0.7) ? random.between(30, 900) : random.between(900, 3500);
}

/** A fault that takes locks from their holders. The checker needs the span in which it may have happened. */
async function theft(arena, kind, key, act) {
  const from = now();
  try {
    await act();
  } finally {
    arena.record('theft', { kind, key, from });
  }
}

function emptyFolder(folder) {
  for (const name of fs.readdirSync(folder)) {
    fs.rmSync(path.join(folder, name), { recursive: true, force: true });
  }
}

/**
 * SIGKILL and a new start. Redis writes to its append-only file before it confirms, so a crash loses nothing; `wipe` loses
 * everything. No worker reaches the new server before MONITOR listens.
 */
async function restart(arena, random, { wipe }) {
  const down = outage(random);
  const again = async () => {
    for (const { gate } of arena.slots) gate.close();
    arena.monitor.detach();
    await arena.server.kill();
    if (wipe) emptyFolder(arena.server.dir);
    await sleep(down);
    await arena.startServerAgain();
    for (const { gate } of arena.slots) await gate.open();
  };
  await (wipe ? theft(arena, 'wipe', null, again) : again());
}

module.exports = { faults };
