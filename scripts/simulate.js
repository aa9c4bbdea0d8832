// `npm run simulate -- --seeds N --from S`: lives of the core in a simulated world, one a seed. The code is in
// src/simulation/, and the test that this runs in src/tests/simulation.rs.
'use strict';

const os = require('node:os');
const { parseArgs } = require('node:util');
const { setup } = require('./setup');
const { requireCargo } = require('./setup/native');
const { run } = require('./setup/run');

const help = `npm run simulate -- [options]

Real cores on a simulated clock, network and redis: each seed is a story of a minute, with several processes, callers and
faults, and the same one each time. What must be true is checked at every step. docs/proof.md says what that proves.

  --seeds N        how many, 10,000 if neither this nor --minutes is given
  --minutes N      as many as fit into this time; fractions are fine
  --from S         the first seed, 1 if not given
  --kind NAME      all of one kind: usual, replicas, addresses or cluster; half of them are usual if not given
  --jobs N         threads; one for each core if not given
  --trace          also every byte and every answer of the stories that offend
  --keep NAME      keeps these stories in src/simulation/regressions; cargo test lives through them from then on
  --help           this text

Ends with 1 if a seed offends, after telling the story of the first three, as short as it could be made. The first 2,000
seeds are part of \`npm test\`. For a release: \`npm run simulate -- --minutes 10\`.
`;

/** A wrong command line. Only its message is printed. */
class UsageError extends Error {}

function main() {
  const { values } = parseArgs({
    options: {
      seeds: { type: 'string' },
      minutes: { type: 'string' },
      from: { type: 'string', default: '1' },
      jobs: { type: 'string', default: String(os.availableParallelism()) },
      trace: { type: 'boolean', default: false },
      kind: { type: 'string' },
      keep: { type: 'string' },
      help: { type: 'boolean', short: 'h', default: false },
    },
  });
  if (values.help) {
    process.stdout.write(help);
    return 0;
  }
  const env = { SIMULATE_FROM: whole(values, 'from', 0), SIMULATE_JOBS: whole(values, 'jobs', 1) };
  if (values.minutes !== undefined) env.SIMULATE_SECONDS = String(Math.ceil(number(values, 'minutes') * 60));
  if (values.seeds !== undefined) env.SIMULATE_SEEDS = whole(values, 'seeds', 1);
  else if (values.minutes === undefined) env.SIMULATE_SEEDS = '10000';
  if (values.trace) env.SIMULATE_TRACE = '1';
  if (values.kind !== undefined) {
    if (!['usual', 'replicas', 'addresses', 'cluster'].includes(values.kind)) {
      throw new UsageError(`--kind must be usual, replicas, addresses or cluster, not ${values.kind}`);
    }
    env.SIMULATE_KIND = values.kind;
  }
  if (values.keep !== undefined) {
    if (!/^[a-z0-9-]+$/.test(values.keep)) {
      throw new UsageError(`--keep must be a name of small letters, digits and dashes, not ${values.keep}`);
    }
    env.SIMULATE_KEEP = values.keep;
  }
  const environment = setup();
  requireCargo();
  const test = 'tests::simulation::seeds_that_were_asked_for';
  const flags = ['--exact', '--ignored', '--nocapture'];
  // With the features of `npm test`, so that nothing is compiled twice.
  const command = ['test', '--quiet', '--profile', 'fast', '--all-features', '--lib', test, '--', ...flags];
  return run('cargo', command, { env: { ...environment, ...env } }) ? 0 : 1;
}

function number(values, name) {
  const value = Number(values[name]);
  if (values[name] === '' || !(value > 0)) {
    throw new UsageError(`--${name} must be a number above 0, not ${values[name]}`);
  }
  return value;
}

function whole(values, name, least) {
  const value = Number(values[name]);
  if (values[name] === '' || !Number.isSafeInteger(value) || value < least) {
    throw new UsageError(`--${name} must be a whole number, at least ${least}, not ${values[name]}`);
  }
  return String(value);
}

if (require.main === module) {
  try {
    process.exitCode = main();
  } catch (error) {
    const isExpected = error instanceof UsageError || String(error.code).startsWith('ERR_PARSE_ARGS');
    process.stderr.write(`${isExpected ? `${error.message}\nnpm run simulate -- --help` : error.stack}\n`);
    process.exitCode = 2;
  }
}
