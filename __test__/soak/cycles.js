// `npm run test:soak`: a million locks and releases. Memory may grow during warm-up, and not afterwards.
//
// package.json sets V8's young generation to its smallest size. Otherwise it grows from 16 to 28 MB at some moment that
// depends on the load of the machine, which would hide a leak.
'use strict';

const { parseArgs } = require('node:util');
const v8 = require('node:v8');
const vm = require('node:vm');
const { setup } = require('../../scripts/setup');

const help = `npm run test:soak -- [options]

Locks and releases a million times, on eight reservations at once, half with callbacks and half with promises, and
compares the memory of the process (RSS, after a garbage collection) with what it was after a fifth of that.

  --cycles N     how many, 1000000 if not given
  --help         this text

Ends with 1 if it has grown by more than 10 MB. Takes a few minutes.
`;

const AT_ONCE = 8;
const MOST_GROWTH = 10; // MB

/** Resolves with the growth in MB. `report(line)` gets the memory ten times during the run. */
async function soak({ cycles, subject, report }) {
  const ReserveResource = require(subject);
  const { startServer } = require('../support/server');
  const server = await startServer(null);
  try {
    const instances = Array.from({ length: AT_ONCE }, (_, number) => {
      return new ReserveResource(`soak${number}`, server.host, server.port, undefined, 30, false);
    });
    let base = 0;
    let growth = 0;
    const start = performance.now();
    for (let part = 1; part <= 10; part += 1) {
      const each = Math.ceil(cycles / 10 / AT_ONCE);
      await Promise.all(instances.map((one, number) => turn(one, `job${number}`, each, number % 2 === 0)));
      const memory = measure();
      if (part === 2) base = memory;
      growth = part > 2 ? memory - base : 0;
      const rate = Math.round((part * each * AT_ONCE) / ((performance.now() - start) / 1000));
      report(`${part * each * AT_ONCE} cycles: ${memory.toFixed(1)} MB, ${rate} cycles a second`);
    }
    return growth;
  } finally {
    await server.stop();
  }
}

async function turn(instance, resource, count, withCallbacks) {
  for (let index = 0; index < count; index += 1) {
    const got = withCallbacks
      ? await ask((done) => instance.lock(resource, done))
      : await instance.lock(resource);
    const freed = withCallbacks
      ? await ask((done) => instance.release(done))
      : await instance.release(resource);
    if (got !== true || freed !== 1) throw new Error(`lock gave ${got}, release gave ${freed}`);
  }
}

function ask(start) {
  return new Promise((resolve, reject) => {
    start((error, value) => (error ? reject(error) : resolve(value)));
  });
}

/** RSS in MB once everything that can be collected is collected. */
function measure() {
  v8.setFlagsFromString('--expose-gc');
  const collect = vm.runInNewContext('gc');
  collect();
  collect();
  return process.memoryUsage().rss / 1024 / 1024;
}

async function main() {
  const { values } = parseArgs({
    options: { cycles: { type: 'string', default: '1000000' }, help: { type: 'boolean', default: false } },
  });
  if (values.help) {
    process.stdout.write(help);
    return 0;
  }
  Object.assign(process.env, setup());
  const report = (line) => process.stdout.write(`${line}\n`);
  const growth = await soak({ cycles: Number(values.cycles), subject: '../..', report });
  report(`grown by ${growth.toFixed(1)} MB since a fifth of the way; ${MOST_GROWTH} are allowed`);
  return growth <= MOST_GROWTH ? 0 : 1;
}

module.exports = { soak };

if (require.main === module) {
  main().then(
    (code) => process.exit(code),
    (error) => {
      process.stderr.write(`${error.stack}\n`);
      process.exit(2);
    },
  );
}
