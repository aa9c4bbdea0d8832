// `npm run simulate:planted`: does the simulation find what it is for? Plants one bug after the other (the patches in
// src/simulation/planted/) in a copy of the core, and counts the seeds that find it.
'use strict';

const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { spawnSync } = require('node:child_process');
const { parseArgs } = require('node:util');
const { setup } = require('./setup');
const { requireCargo } = require('./setup/native');
const { root, SetupError } = require('./setup/run');

const help = `npm run simulate:planted -- [names…]

Each bug is one that a version of this package had, or a decision of docs/decisions undone. It is planted in a copy of
src/, and the simulation runs until it is found.

  names…    only the bugs whose names contain one of these
  --help    this text

Ends with 1 if a bug is not found within 10,000 seeds, or if its patch fits no more. Takes about half a minute for each.
`;

/** Of so many seeds it is counted how many find the bug; only if none does, more are run. */
const COUNTED = 1_000;
const MOST = 10_000;

const patches = path.join(root, 'src', 'simulation', 'planted');
const copy = path.join(root, 'target', 'planted', 'copy');

function main() {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: { help: { type: 'boolean', short: 'h', default: false } },
  });
  if (values.help) {
    process.stdout.write(help);
    return 0;
  }
  const all = fs.readdirSync(patches).filter((name) => name.endsWith('.patch'));
  const wanted = all.filter(
    (name) => positionals.length === 0 || positionals.some((part) => name.includes(part)),
  );
  if (wanted.length === 0) {
    process.stderr.write(
      `No planted bug is called ${positionals.join(' or ')}; there are:\n${all.join('\n')}\n`,
    );
    return 2;
  }
  const environment = setup();
  requireCargo();
  const clean = live(environment, null);
  if (clean.found.length > 0) {
    process.stderr.write(`Without a bug, seed ${clean.found[0].seed} offends: ${clean.found[0].offence}\n`);
    return 1;
  }
  let missed = 0;
  for (const name of wanted.sort()) {
    const { found, seeds } = live(environment, name);
    if (found.length === 0) missed += 1;
    process.stdout.write(`${line(name, found, seeds)}\n`);
  }
  process.stdout.write(`${wanted.length - missed} of ${wanted.length} bugs are found\n`);
  return missed === 0 ? 0 : 1;
}

function line(name, found, seeds) {
  const bug = name.replace(/\.patch$/, '');
  if (found.length === 0) return `${bug}: NOT FOUND in ${seeds} seeds`;
  const [first] = found.sort((one, other) => one.seed - other.seed);
  return `${bug}: in ${found.length} of ${seeds} seeds, first in ${first.seed}: ${first.offence}`;
}

/** Lives through seeds with a bug (null: with none): which of how many find it. */
function live(environment, name) {
  plant(name);
  let result = run(environment, { SIMULATE_SEEDS: COUNTED });
  if (result.found.length === 0 && name !== null) {
    result = run(environment, {
      SIMULATE_FROM: COUNTED + 1,
      SIMULATE_SEEDS: MOST - COUNTED,
      SIMULATE_ENOUGH: 1,
    });
    result.seeds += COUNTED;
  }
  return result;
}

/** Makes the copy anew, with the bug in it. Files that are the same keep their times, so that little is compiled. */
function plant(name) {
  fs.mkdirSync(copy, { recursive: true });
  for (const what of [
    'src',
    'benches',
    'Cargo.toml',
    'Cargo.lock',
    'build.rs',
    'rustfmt.toml',
    'clippy.toml',
  ]) {
    same(path.join(root, what), path.join(copy, what));
  }
  if (name === null) return;
  const words = [
    '--batch',
    '--forward',
    '--strip=1',
    `--directory=${copy}`,
    `--input=${path.join(patches, name)}`,
  ];
  const { status, stdout } = spawnSync('patch', words, { encoding: 'utf8' });
  if (status !== 0) {
    throw new SetupError(`${name} fits no more; write it anew for the code as it is now:\n${stdout}`);
  }
}

function same(from, to) {
  if (fs.statSync(from).isDirectory()) {
    fs.mkdirSync(to, { recursive: true });
    const names = fs.readdirSync(from);
    for (const gone of fs.readdirSync(to).filter((one) => !names.includes(one))) {
      fs.rmSync(path.join(to, gone), { recursive: true });
    }
    for (const name of names) same(path.join(from, name), path.join(to, name));
  } else if (!fs.existsSync(to) || !fs.readFileSync(from).equals(fs.readFileSync(to))) {
    fs.copyFileSync(from, to);
  }
}

function run(environment, variables) {
  const env = { ...environment, SIMULATE_JOBS: os.availableParallelism(), SIMULATE_TERSE: 1, ...variables };
  env.CARGO_TARGET_DIR = path.join(root, 'target', 'planted', 'target');
  // A bug changes a few lines: only what depends on these is compiled again.
  env.CARGO_PROFILE_FAST_INCREMENTAL = 'true';
  const test = 'tests::simulation::seeds_that_were_asked_for';
  const words = [
    'test',
    '--quiet',
    '--profile',
    'fast',
    '--lib',
    test,
    '--',
    '--exact',
    '--ignored',
    '--nocapture',
  ];
  const { stdout, stderr } = spawnSync('cargo', words, {
    cwd: copy,
    env,
    encoding: 'utf8',
    maxBuffer: 1 << 28,
    timeout: 900_000,
  });
  const done = /^(\d+) seeds in /m.exec(stdout);
  if (done === null)
    throw new SetupError(`the simulation did not end:\n${stdout.slice(-2000)}\n${stderr.slice(-4000)}`);
  const found = [...stdout.matchAll(/^seed (\d+): (?:[\d.]+ s: )?(.*)$/gm)];
  return {
    seeds: Number(done[1]),
    found: found.map(([, seed, offence]) => ({ seed: Number(seed), offence })),
  };
}

try {
  process.exitCode = main();
} catch (error) {
  const isExpected = error instanceof SetupError || String(error.code).startsWith('ERR_PARSE_ARGS');
  process.stderr.write(`${isExpected ? error.message : error.stack}\n`);
  process.exitCode = isExpected && !(error instanceof SetupError) ? 2 : 1;
}
