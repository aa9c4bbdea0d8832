// Runs the probe of __test__/runtimes on one runtime, against one server. Returns a list of `{ check, ok, seen }`.
'use strict';

const { spawn } = require('node:child_process');
const { reap } = require('../../__test__/support/reaper');

const LIMIT = 90000; // ms that one process may take

/** How each process of `ends.js` should end. `fast`: before any ttl is over. */
const ends = {
  idle: { title: 'exit: idle', code: 0, fast: true },
  holding: { title: 'exit: holding', code: 0, fast: true },
  pending: { title: 'exit: pending call', code: 0 },
  exit: { title: 'exit: process.exit', code: 0, fast: true },
  loss: {
    title: 'loss thrown',
    fails: /Worker probe-\d+-\w+ lost reservation-ends-loss to thief/,
  },
};

/** `folder` contains the probe's files, and the package in node_modules. */
async function probe(runtime, program, folder, environment) {
  const start = (...args) => runProcess(program, [...runtime.run, ...args], folder, environment);
  const results = [];
  for (const part of ['calls', 'threads']) results.push(...(await checksOf(part, start('probe.js', part))));
  results.push(...(await checksOf('import', start('esm.mjs'))));
  for (const [name, wanted] of Object.entries(ends)) {
    const seen = complaint(await start('probe.js', 'ends', name), wanted);
    results.push({ check: wanted.title, ok: seen === null, seen: seen || undefined });
  }
  return results;
}

/** The lines that a part printed, and one more if it did not end as expected. */
async function checksOf(part, running) {
  const ended = await running;
  const lines = ended.stdout.split('\n').filter((line) => line.startsWith('{"check"'));
  const results = lines.map((line) => JSON.parse(line));
  const code = results.every(({ ok }) => ok) ? 0 : 1;
  if (ended.code !== code || results.length === 0 || ended.stderr !== '') {
    results.push({ check: `${part}: its process`, ok: false, seen: how(ended) });
  }
  return results;
}

function complaint(ended, wanted) {
  if (!ended.stdout.split('\n').includes('ready')) return `did not get there: ${how(ended)}`;
  if (wanted.fails) {
    if (ended.code === 0 || ended.code === null) return `was not thrown: ${how(ended)}`;
    return wanted.fails.test(ended.stderr) ? null : `was thrown without its message: ${how(ended)}`;
  }
  if (ended.code !== wanted.code || ended.stderr !== '') return how(ended);
  return wanted.fast && ended.lingered > 3000 ? `ended ${Math.round(ended.lingered)} ms late` : null;
}

function how({ code, signal, stderr, hung }) {
  const end = hung ? `still ran after ${LIMIT} ms` : signal ? `ended by ${signal}` : `ended with ${code}`;
  return stderr ? `${end}: ${stderr.trim().slice(0, 600)}` : end;
}

function runProcess(program, args, cwd, environment) {
  return new Promise((resolve) => {
    const child = spawn(program, args, {
      cwd,
      env: { ...process.env, ...environment, NO_COLOR: '1', DENO_NO_UPDATE_CHECK: '1' },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    reap(child);
    const ended = { stdout: '', stderr: '', hung: false, lingered: 0 };
    let ready = performance.now();
    child.stdout.setEncoding('utf8').on('data', (text) => {
      ended.stdout += text;
      ready = performance.now();
    });
    child.stderr.setEncoding('utf8').on('data', (text) => (ended.stderr += text));
    const limit = setTimeout(() => {
      ended.hung = true;
      child.kill('SIGKILL');
    }, LIMIT);
    child.once('exit', () => (ended.lingered = performance.now() - ready));
    child.once('close', (code, signal) => {
      clearTimeout(limit);
      resolve({ ...ended, code, signal });
    });
  });
}

module.exports = { probe };
