// Scenario: the time from the start of a process to its first lock, compared with Node alone.
'use strict';

const { spawn } = require('node:child_process');
const path = require('node:path');

const program = path.join(__dirname, '..', 'lib', 'first-lock.js');

async function round({ entry, server, environment }) {
  const { host, port } = server;
  await server.clear();
  const start = performance.now();
  const settings = JSON.stringify({ host, port, ttl: 30000 });
  const child = spawn(process.execPath, [program, entry.key === 'bare' ? 'bare' : entry.id, settings], {
    env: environment,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  let complaints = '';
  let locked;
  child.stdout.on('data', (text) => {
    locked ??= performance.now() - start;
    output += text;
  });
  child.stderr.on('data', (text) => {
    complaints += text;
  });
  const code = await new Promise((resolve) => child.once('close', resolve));
  if (code !== 0) throw new Error(`the process ended with ${code}: ${complaints}`);
  const { loaded } = JSON.parse(output);
  return { locked, loaded };
}

module.exports = {
  title: 'process start to first lock',
  rounds: 9,
  entries: [
    'ours',
    { id: 'ours', key: 'bare', label: 'Node alone, no lock' },
    'original',
    'ioredis',
    'node-redis',
    'redlock',
    'redis-semaphore',
    'simple-redis-mutex',
    'warlock',
    'redlock-universal',
    'redis-kit',
  ],
  measures: [
    { key: 'locked', label: 'first lock', unit: 'ms', best: 'low' },
    { key: 'loaded', label: 'require()', unit: 'ms', best: 'low' },
  ],
  aims: [
    {
      text: 'first lock, ms more than Node alone (< 64: 150 where Node takes 86)',
      value: ({ figure }) => figure('ours', 'locked') - figure('bare', 'locked'),
      atMost: 64,
    },
    { text: 'require(), ms (< 10)', value: ({ figure }) => figure('ours', 'loaded'), atMost: 10 },
  ],
  round,
};
