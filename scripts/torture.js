// `npm run torture -- --minutes N --seed S`: real processes and a real redis under random faults, for N minutes, then a check
// of the recorded history. The code is in __test__/torture/.
'use strict';

const fs = require('node:fs');
const path = require('node:path');
const { parseArgs } = require('node:util');
const { setup } = require('./setup');

const help = `npm run torture -- [options]

Worker processes lock, wait, hold, write what the lock guards, release and die, on a few keys, each through a proxy of
its own, while redis, the links and the workers are killed, stopped, restarted and cut at random. All that they see, and
all that redis does, is recorded, and the history is checked: never two holders at once, no lost update, every loss told
once and in time, every call answered once, no key left behind, no waiter forgotten.

  --minutes N        how long, 1 if not given; fractions are fine. Split into rounds of half a minute, each with new
                     processes, an empty redis and a seed of its own (the first round's is S, the next S + 1, …)
  --seed S           a whole number; random if not given, and always printed. It decides what is done, not how fast the
                     machine does it: a rare offence may need several runs of its seed to come back
  --workers N        processes, 4 if not given
  --instances N      reservations in each, 3 if not given
  --keys N           resources they fight for, 3 if not given
  --pace N           how fast faults follow one another, 1 if not given; 0.5 is twice as fast
  --faults a,b,…     only these (the names are in __test__/torture/faults.js); "none" for a run in peace
  --subject FILE     another module in place of this package, e.g. __test__/torture/broken/naive.js
  --history FILE     writes the history of the last round there, one event a line, as JSON
  --help             this text

Ends with 1 at the first round with an offence, after printing it, its part of the history, and its seed. At the end the
worst numbers are printed: how late a loss was told, the longest outages that a lock survived, the slowest answers.
A run of 20 s with a fixed seed is part of \`npm test\`. For a release: \`npm run torture -- --minutes 60\`, on a machine
that has nothing else to do: what is told "in time" is measured.
`;

const ROUND = 30; // seconds

/** A wrong command line. Only its message is printed. */
class UsageError extends Error {}

async function main() {
  const { values } = parseArgs({
    options: {
      minutes: { type: 'string', default: '1' },
      seed: { type: 'string' },
      workers: { type: 'string', default: '4' },
      instances: { type: 'string', default: '3' },
      keys: { type: 'string', default: '3' },
      pace: { type: 'string', default: '1' },
      faults: { type: 'string' },
      subject: { type: 'string' },
      history: { type: 'string' },
      help: { type: 'boolean', short: 'h', default: false },
    },
  });
  if (values.help) {
    process.stdout.write(help);
    return 0;
  }
  const options = {
    workers: number(values, 'workers', 1),
    instances: number(values, 'instances', 1),
    keys: number(values, 'keys', 1),
    pace: number(values, 'pace', 0),
    faults: values.faults && values.faults.split(',').map((one) => one.trim()),
    subject: values.subject ? path.resolve(values.subject) : undefined,
  };
  const first = values.seed === undefined ? Math.floor(Math.random() * 1e9) : number(values, 'seed', 0);
  const seconds = number(values, 'minutes', 0) * 60;
  Object.assign(process.env, setup());
  // Loaded only now: it needs npm packages that the set-up may have just installed.
  return rounds({ first, seconds, options, file: values.history });
}

async function rounds({ first, seconds, options, file }) {
  const { faults: known } = require('../__test__/torture/faults');
  const unknown = (options.faults || []).filter((name) => name !== 'none' && !Object.hasOwn(known, name));
  if (unknown.length > 0) {
    throw new UsageError(`--faults: no "${unknown[0]}"; there are ${Object.keys(known).join(', ')}`);
  }
  const { torture } = require('../__test__/torture/report');
  const { worse, describe } = require('../__test__/torture/figures');
  let figures = null;
  let code = 0;
  for (let number_ = 0, left = seconds; left > 0 && code === 0; number_ += 1, left -= ROUND) {
    const seed = first + number_;
    const length = Math.min(left, ROUND);
    process.stdout.write(`seed ${seed}, ${+length.toFixed(1)} s … `);
    const result = await torture({ ...options, seed, seconds: length });
    figures = worse(figures, result.figures);
    if (file) fs.writeFileSync(file, result.history.map((event) => `${JSON.stringify(event)}\n`).join(''));
    const { acquisitions, faults } = result.figures.counts;
    const verdict = result.violations.length === 0 ? 'nothing wrong' : `${result.violations.length} offences`;
    process.stdout.write(`${acquisitions} acquisitions, ${faults} faults, ${verdict}\n`);
    if (result.violations.length > 0) {
      process.stdout.write(`\n${result.text}\n\n`);
      code = 1;
    }
  }
  if (figures) process.stdout.write(`\n${describe(figures)}\n`);
  return code;
}

const fractions = ['minutes', 'pace'];

function number(values, name, least) {
  const value = Number(values[name]);
  if (values[name].trim() !== '' && value >= least && (fractions.includes(name) || Number.isInteger(value)))
    return value;
  throw new UsageError(`--${name} must be a number of ${least} or more; it is "${values[name]}"`);
}

main().then(
  (code) => process.exit(code),
  (error) => {
    const isUsage = error instanceof UsageError || String(error.code).startsWith('ERR_PARSE_ARGS');
    process.stderr.write(`${isUsage ? error.message : error.stack}\n`);
    process.exit(2);
  },
);
