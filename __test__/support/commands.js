// Counts the commands that a redis-server has run, by INFO commandstats.
'use strict';

/** How often each command was called since the server started: `{ set: 3, 'client|kill': 1 }`. */
async function commandCalls(client) {
  const text = await client.info('commandstats');
  const calls = {};
  for (const [, name, count] of text.matchAll(/^cmdstat_([^:]+):calls=(\d+)/gm)) calls[name] = Number(count);
  return calls;
}

/**
 * The commands that the server ran during `work`, without the counting itself: `{ calls: { set: 1 }, value }`, `value` being
 * the result of `work`. Commands that scripts call count as well.
 */
async function countCommands(client, work) {
  const before = await commandCalls(client);
  const value = await work();
  const after = await commandCalls(client);
  const calls = {};
  for (const [name, count] of Object.entries(after)) {
    const own = name === 'info' ? 1 : 0;
    const difference = count - (before[name] || 0) - own;
    if (difference > 0) calls[name] = difference;
  }
  return { calls, value };
}

module.exports = { commandCalls, countCommands };
