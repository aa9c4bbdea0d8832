// `npm run test:servers`: runs the behaviour suite on every supported server, and prints a table of what passed. `npm run
// test:servers -- redis-8` runs only these.
'use strict';

const path = require('node:path');
const { run } = require('node:test');
const { setup } = require('./setup');
const { root } = require('./setup/run');
const { servers, provideServer } = require('./servers/list');

const suite = ['lock', 'wait', 'release', 'loss', 'commands', 'heartbeat', 'connection', 'fields', 'peers'];

async function main(names) {
  const unknown = names.filter((name) => !servers.some((server) => server.name === name));
  if (unknown.length > 0) {
    process.stderr.write(
      `No server ${unknown.join(', ')}; there are ${servers.map(({ name }) => name).join(', ')}.\n`,
    );
    return 2;
  }
  Object.assign(process.env, setup());
  const columns = [];
  // All servers are found first: REDIS_SERVER names the server under test later, and "system" would use it too.
  const chosen = servers.filter(({ name }) => names.length === 0 || names.includes(name)).map(provideServer);
  for (const { program, version } of chosen) {
    process.stdout.write(`${version} … `);
    const counts = await testOn(program);
    columns.push({ version, counts });
    const failures = [...counts.values()].flatMap(({ failures: some }) => some);
    process.stdout.write(failures.length === 0 ? 'all pass\n' : `${failures.length} fail\n`);
    for (const failure of failures) process.stdout.write(`  ${failure}\n`);
  }
  process.stdout.write(`\n${table(columns)}\n`);
  const sum = (field) =>
    columns.reduce(
      (total, { counts }) => total + [...counts.values()].reduce((n, one) => n + one[field], 0),
      0,
    );
  process.stdout.write(`\n${sum('passed')} passed, ${sum('failed')} failed\n`);
  return sum('failed') === 0 ? 0 : 1;
}

/** Runs the suite with one server. Returns what passed and failed in each file. */
async function testOn(program) {
  // The processes of the test files inherit it.
  process.env.REDIS_SERVER = program;
  const counts = new Map(suite.map((name) => [name, { passed: 0, failed: 0, failures: [] }]));
  const files = suite.map((name) => path.join(root, '__test__', `${name}.test.js`));
  const events = run({ files, concurrency: 2, timeout: 240000 });
  const countOf = ({ file }) => counts.get(path.basename(file || '', '.test.js'));
  const isTest = ({ details, file }) => file && details.type !== 'suite';
  events.on('test:pass', (data) => {
    if (isTest(data) && countOf(data)) countOf(data).passed += 1;
  });
  events.on('test:fail', (data) => {
    if (!isTest(data) || !countOf(data)) return;
    countOf(data).failed += 1;
    const { cause } = data.details.error;
    countOf(data).failures.push(
      `${data.name}: ${String((cause && cause.message) || data.details.error.message).split('\n')[0]}`,
    );
  });
  for await (const event of events) void event;
  return counts;
}

function table(columns) {
  const line = (cells) => `| ${cells.join(' | ')} |`;
  const cell = ({ passed, failed }) =>
    failed > 0 ? `**${failed} of ${passed + failed} fail**` : String(passed);
  const rows = suite.map((name) => line([name, ...columns.map(({ counts }) => cell(counts.get(name)))]));
  const head = ['test file', ...columns.map(({ version }) => version)];
  return [line(head), line(head.map(() => '---')), ...rows].join('\n');
}

main(process.argv.slice(2)).then(
  (code) => process.exit(code),
  (error) => {
    process.stderr.write(`${error.stack}\n`);
    process.exit(1);
  },
);
