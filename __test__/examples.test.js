// Every example runs, and the documents match the code.
'use strict';

const assert = require('node:assert/strict');
const { execFile } = require('node:child_process');
const fs = require('node:fs');
const path = require('node:path');
const { test } = require('node:test');
const { promisify } = require('node:util');
const vm = require('node:vm');
const ReserveResource = require('../index.js');
const { WAIT_OPTIONS } = require('../lib/arguments/values');
const { CONSTRUCTOR_OPTIONS } = require('../lib/arguments/options');
const { TLS_OPTIONS } = require('../lib/arguments/tls');
const { documents } = require('../scripts/links');
const { startChild, root } = require('./support/child');
const { filesBelow } = require('./support/sources');
const { removeAtEnd } = require('./support/reaper');
const { startServer } = require('./support/server');
const { until, watchWhile } = require('./support/wait');

const key = 'reservation-nightly-report';

/** Runs an example to its end, after which no key may be left. Gives what it printed, without its log lines. */
async function linesOf(t, file, options = {}) {
  const server = await startServer(t);
  const child = startChild(t, file, { ...options, env: server.environment });
  const ended = await child.exit({ timeout: 20000 });
  assert.deepEqual(ended, { code: 0, signal: null }, child.stderr);
  assert.equal(child.stderr, '');
  const held = await server.client().keys('reservation-*');
  assert.deepEqual(held, [], 'everything was released');
  return child.stdout.split('\n').filter((line) => line && !line.startsWith('{'));
}

/** A folder inside the package, so that code in it finds the package by its name. Gone at the end. */
function makeFolder() {
  const cache = path.join(root, '.cache');
  fs.mkdirSync(cache, { recursive: true });
  const folder = fs.mkdtempSync(path.join(cache, 'examples-'));
  removeAtEnd(folder);
  return folder;
}

test('callbacks', async (t) => {
  assert.deepEqual(await linesOf(t, 'examples/callbacks.js'), ['the job runs']);
});

test('promises', async (t) => {
  assert.deepEqual(await linesOf(t, 'examples/promises.js'), ['the job runs']);
});

test('an example does not run its job while another process holds the lock', async (t) => {
  const server = await startServer(t);
  await server.command('SET', key, 'somebody');
  for (const file of ['examples/callbacks.js', 'examples/promises.js']) {
    const child = startChild(t, file, { env: server.environment });
    await child.line('somebody else runs it');
    assert.equal((await child.exit()).code, 0);
  }
});

for (const coffee of [1, 2]) {
  test(`CoffeeScript ${coffee}`, async (t) => {
    const lines = await linesOf(t, 'examples/worker.coffee', { coffee });
    assert.deepEqual(lines, ['the job runs', 'the lock is free']);
  });
}

test('a CoffeeScript worker waits for a held lock', async (t) => {
  const server = await startServer(t);
  await server.command('SET', key, 'somebody');
  const child = startChild(t, 'examples/worker.coffee', { env: server.environment });
  await child.line('Reservation already held');
  await server.command('DEL', key);
  await child.line(`got ${key}`);
  await child.line('the lock is free');
  assert.equal((await child.exit()).code, 0);
});

test('the TypeScript example compiles in strict mode, and runs', async (t) => {
  const folder = makeFolder();
  const options = ['--strict', '--esModuleInterop', '--target', 'es2022', '--types', 'node'];
  const modules = ['--module', 'node16', '--moduleResolution', 'node16'];
  const places = ['--rootDir', root, '--outDir', folder, path.join(root, 'examples', 'typescript.ts')];
  const compiler = require.resolve('typescript/bin/tsc');
  await promisify(execFile)(process.execPath, [compiler, ...options, ...modules, ...places], { cwd: root });
  const lines = await linesOf(t, path.join(folder, 'examples', 'typescript.js'));
  assert.deepEqual(lines, [`got ${key}`, 'the job runs, aborted: false', 'freed 1']);
});

test('a wait ends by a timeout or a signal', async (t) => {
  const lines = await linesOf(t, 'examples/waiting.js');
  assert.deepEqual(lines, ['ERR_RESERVATION_TIMEOUT', 'the worker is shutting down', key]);
});

test('a loss stops the job', async (t) => {
  const server = await startServer(t);
  const child = startChild(t, 'examples/loss.js', { env: server.environment });
  await child.line('step 2');
  await server.command('SET', key, 'a thief');
  await child.line(/^Worker worker-name-\S+ lost reservation-nightly-report to a thief$/);
  await child.line('stopped early, held: false');
  assert.deepEqual(await child.exit(), { code: 0, signal: null });
  assert.equal(await server.client().get(key), 'a thief');
});

test('several resources', async (t) => {
  const lines = await linesOf(t, 'examples/several-resources.js');
  assert.deepEqual(lines, ['both: true true', 'one: false true', 'freed 1']);
});

test('several resources: all are acquired, or none', async (t) => {
  const server = await startServer(t);
  await server.command('SET', 'reservation-account-7', 'somebody');
  const child = startChild(t, 'examples/several-resources.js', { env: server.environment });
  await child.line('one of the accounts is in use');
  assert.equal((await child.exit()).code, 0);
  assert.deepEqual(await server.client().keys('*'), ['reservation-account-7']);
});

test('a job that blocks its event loop keeps its key', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  const child = startChild(t, 'examples/blocking-job.js', { env: server.environment });
  await child.line('blocked');
  const { seen } = await watchWhile(
    () => child.line('held: true'),
    () => client.exists(key),
  );
  // At the last look the key may have been released.
  assert.ok(seen.length > 20);
  assert.deepEqual([...new Set(seen.slice(0, -1))], [1]);
  assert.deepEqual(await child.exit(), { code: 0, signal: null });
  await until(async () => !(await client.exists(key)), { what: 'the release' });
});

test('a fencing check', async (t) => {
  const lines = await linesOf(t, 'examples/fencing.js');
  assert.deepEqual(lines, ['slow: ERR_RESERVATION_LOST', 'slow writes: false', 'next writes: true']);
});

test('every example has at most 40 lines, and a test here or in topologies/', () => {
  const tests = read('__test__/examples.test.js') + read('__test__/topologies/examples.test.js');
  for (const name of fs.readdirSync(path.join(root, 'examples'))) {
    const lines = read(`examples/${name}`).split('\n').length - 1;
    assert.ok(lines <= 40, `${name} has ${lines} lines`);
    assert.ok(tests.includes(`examples/${name}`) || tests.includes(`'${name}'`), `${name} has no test`);
    assert.ok(readme.includes(`(examples/${name})`), `the README does not name ${name}`);
  }
});

const readme = read('README.md');

for (const [language, extension] of [
  ['coffee', 'coffee'],
  ['js', 'js'],
]) {
  test(`the first ${language} of the README runs as it stands`, async (t) => {
    const [, code] = readme.match(new RegExp(`\`\`\`${language}\n([^]*?)\`\`\``));
    const file = path.join(makeFolder(), `first.${extension}`);
    fs.writeFileSync(file, code);
    assert.deepEqual(await linesOf(t, file), ['the job runs']);
  });
}

test('every block of JavaScript in the documents is valid', () => {
  let blocks = 0;
  for (const file of documents()) {
    for (const [, code] of read(file).matchAll(/^```js\n([^]*?)^```$/gm)) {
      blocks += 1;
      assert.doesNotThrow(() => new vm.Script(`(async () => {\n${code}\n})`, { filename: file }), file);
    }
  }
  assert.ok(blocks >= 12, `${blocks} blocks`);
});

test('the documents name every error, option, log line and method', () => {
  const text = ['docs/api.md', 'docs/logging.md'].map(read).join('\n');
  const names = Object.getOwnPropertyNames(ReserveResource).filter((name) => /Error$/.test(name));
  const methods = Object.keys(ReserveResource.prototype);
  const codes = read('lib/errors.js').match(/\bERR_\w+/g);
  const own = [...CONSTRUCTOR_OPTIONS, ...WAIT_OPTIONS, ...TLS_OPTIONS];
  const titles = filesBelow('lib').flatMap((file) =>
    Array.from(
      read(file).matchAll(/(?:info|warn|error)\((?:instance, )?['"]([a-z-]+)['"]/g),
      (hit) => hit[1],
    ),
  );
  assert.ok(
    names.length >= 10 &&
      methods.length >= 8 &&
      codes.length >= 10 &&
      own.length >= 20 &&
      titles.length >= 12,
  );
  const missing = [...names, ...methods, ...codes, ...own, ...titles].filter((name) => !text.includes(name));
  assert.deepEqual(missing, []);
});

test('the README has at most 250 lines, and names every option and every error', () => {
  assert.ok(readme.split('\n').length <= 251, 'it has more than 250 lines');
  assert.deepEqual(
    [...CONSTRUCTOR_OPTIONS, ...read('lib/errors.js').match(/\bERR_\w+/g)].filter(
      (name) => !readme.includes(`\`${name}\``),
    ),
    [],
  );
});

function read(file) {
  return fs.readFileSync(path.join(root, file), 'utf8');
}
