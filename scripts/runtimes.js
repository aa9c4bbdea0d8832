// `npm run test:runtimes`: runs the packed package on every supported runtime, against a real redis. `npm run test:runtimes --
// node-12.22 bun` runs only these.
'use strict';

const fs = require('node:fs');
const path = require('node:path');
const { setup } = require('./setup');
const { cache } = require('./setup/run');
const { packInto } = require('./setup/pack');
const runtimes = require('./runtimes/list');
const { provideRuntime } = require('./runtimes/install');
const { layProbe } = require('./runtimes/lay');
const { table } = require('./runtimes/table');

async function main(names) {
  const unknown = names.filter((name) => !runtimes.some((runtime) => runtime.name === name));
  if (unknown.length > 0) {
    process.stderr.write(
      `No runtime ${unknown.join(', ')}; there are ${runtimes.map(({ name }) => name).join(', ')}.\n`,
    );
    return 2;
  }
  if (process.platform !== 'linux' || process.arch !== 'x64') {
    process.stderr.write('The packages that carry the runtimes are for Linux x64.\n');
    return 2;
  }
  Object.assign(process.env, setup());
  // Loaded only now: they need npm packages that the set-up has just installed.
  const { startServer } = require('../__test__/support/server');
  const { probe } = require('./runtimes/probe');
  const folder = path.join(cache, 'runtimes', 'project');
  fs.rmSync(folder, { recursive: true, force: true });
  packInto(folder);
  layProbe(folder);
  const columns = [];
  for (const runtime of runtimes) {
    if (names.length > 0 && !names.includes(runtime.name)) continue;
    const { program, version } = provideRuntime(runtime);
    process.stdout.write(`${runtime.name} (${version}) … `);
    const server = await startServer(null);
    try {
      const results = await probe(runtime, program, folder, server.environment);
      columns.push({ name: runtime.name, version, results });
      const failed = results.filter(({ ok }) => !ok).map(({ check }) => check);
      process.stdout.write(failed.length === 0 ? `all ${results.length}\n` : `FAILS ${failed.join(', ')}\n`);
    } finally {
      await server.stop();
    }
  }
  process.stdout.write(`\n${table(columns)}\n`);
  const results = columns.flatMap((column) => column.results);
  const failed = results.filter(({ ok }) => !ok).length;
  process.stdout.write(`\n${results.length - failed} passed, ${failed} failed\n`);
  return failed === 0 ? 0 : 1;
}

main(process.argv.slice(2)).then(
  (code) => process.exit(code),
  (error) => {
    process.stderr.write(`${error.stack}\n`);
    process.exit(1);
  },
);
