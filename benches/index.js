// `npm run bench [-- scenario …] [-- --rounds N]`: reads the command line, runs the scenarios, prints and keeps their figures.
// README.md beside this file describes each scenario.
'use strict';

const path = require('node:path');
const { parseArgs } = require('node:util');

const usage = `npm run bench [-- scenario …] [-- options]

  --rounds N       how many rounds instead of each scenario's own number
  --only ID,ID     only these contenders, by the names of their files in benches/contenders/
  --package PATH   measure the package in this folder, as it is, instead of a release build of this tree
  --report         measure nothing; write what was kept into docs/performance.md again
  --list           name the scenarios
  --help           this

Several scenarios run one after another; without any, all do.
`;

async function main() {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      rounds: { type: 'string' },
      only: { type: 'string' },
      package: { type: 'string', default: process.env.BENCH_PACKAGE },
      report: { type: 'boolean' },
      list: { type: 'boolean' },
      help: { type: 'boolean', short: 'h' },
    },
  });
  const { names, scenario } = require('./scenarios');
  if (values.help) return process.stdout.write(usage);
  if (values.list)
    return process.stdout.write(names.map((name) => `${name}: ${scenario(name).title}\n`).join(''));
  if (values.report) return require('./lib/report').report();
  const rounds = values.rounds === undefined ? undefined : positive(values.rounds);
  const chosen = (positionals.length > 0 ? positionals : names).map(scenario);
  const only = values.only && values.only.split(',');
  const { contender } = require('./contenders');
  if (only) only.forEach(contender);
  const { prepare, machine } = require('./lib/setup');
  const { environment, binary } = prepare(values.package);
  Object.assign(process.env, environment);
  return run(chosen, { rounds, only, environment, about: machine({ binary }) });
}

function positive(text) {
  const number = Number(text);
  if (Number.isInteger(number) && number > 0) return number;
  const { SetupError } = require('../scripts/setup/run');
  throw new SetupError(`--rounds must be a whole number above 0; it is ${text}.`);
}

async function run(chosen, { rounds, only, environment, about }) {
  // Loaded only now: they need npm packages that the set-up installs.
  const { runScenario } = require('./lib/rounds');
  const { printScenario } = require('./lib/table');
  const { keep } = require('./lib/results');
  const terminal = process.stdout.isTTY;
  const write = (text) => process.stdout.write(text);
  const colour = terminal && !process.env.NO_COLOR;
  const say = (line) => process.stderr.isTTY && process.stderr.write(`\r\x1b[K${line.slice(0, 100)}`);
  const complain = (line) => process.stderr.write(`${process.stderr.isTTY ? '\r\x1b[K' : ''}${line}\n`);
  write(`${about.processor}, ${about.cores} cores, ${about.memory}; ${about.system}; Node ${about.node}\n`);
  let missed = 0;
  for (const scenario of chosen) {
    const result = await runScenario(scenario, { rounds, only, environment, say, complain });
    if (process.stderr.isTTY) process.stderr.write('\r\x1b[K');
    printScenario(result, { write, colour });
    // Figures without the other contenders are not kept.
    if (!only) keep(result, about);
    missed += result.aims.filter((aim) => aim.met === false).length;
  }
  write('\n* no safe lock: it deletes whatever the key holds.\n');
  const place = `${path.relative(process.cwd(), path.join(__dirname, 'results'))}/`;
  write(`${missed === 1 ? '1 aim' : `${missed} aims`} missed. `);
  if (only) return write('Not kept, for not all contenders ran.\n');
  require('./lib/report').report();
  return write(`Kept in ${place} and in docs/performance.md\n`);
}

main().then(
  () => process.exit(0),
  (error) => {
    // The message says what is wrong with the command line or the set-up.
    const { SetupError } = require('../scripts/setup/run');
    const plain = error instanceof SetupError || /^ERR_PARSE_ARGS/.test(error.code);
    process.stderr.write(`\n${plain ? error.message : error.stack}\n`);
    process.exit(1);
  },
);
