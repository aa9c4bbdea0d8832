// npm, pnpm and yarn install a release: only the main package and that of this platform, without running a script; and the
// package works in each layout.
'use strict';

const assert = require('node:assert/strict');
const { execFile } = require('node:child_process');
const fs = require('node:fs');
const path = require('node:path');
const { after, before, test } = require('node:test');
const { promisify } = require('node:util');
const { platform_name } = require('../../lib/load');
const { makePackages } = require('../../scripts/release/packages');
const { targets, binaryName, packageName } = require('../../scripts/release/targets');
const { root } = require('../support/child');
const { startServer } = require('../support/server');
const { startRegistry } = require('./registry');
const { makeFolder, writeFiles, use, holds } = require('./support');
const { provideTool } = require('./tools');

const run = promisify(execFile);
const here = platform_name();
let server;
let folders; // the packages of a release

before(async () => {
  server = await startServer(null);
  const to = path.join(makeFolder(), 'release');
  folders = makePackages({ from: makeBinaries(), to });
});

after(() => server.stop());

/** A folder with a binary for every platform. Only this platform's can be loaded. */
function makeBinaries() {
  const folder = makeFolder();
  for (const { platform } of targets) fs.writeFileSync(path.join(folder, binaryName(platform)), platform);
  fs.copyFileSync(path.join(root, binaryName(here)), path.join(folder, binaryName(here)));
  return folder;
}

const files = {
  'package.json': JSON.stringify({ private: true, dependencies: { 'redis-reservation': '^1.0.0' } }),
  'index.cjs': `const ReserveResource = require('redis-reservation');${use}`,
  'index.mjs': `import ReserveResource from 'redis-reservation';${use}`,
  'worker.cjs': `
    const { Worker, isMainThread } = require('node:worker_threads');
    if (isMainThread) new Worker(__filename); else require('./index.cjs');`,
};

/** The platforms whose binary is somewhere below the folder. */
function installedPlatforms(folder) {
  const entries = fs.readdirSync(folder, { recursive: true, withFileTypes: true });
  const names = new Set(entries.map((entry) => entry.name));
  return targets.map(({ platform }) => platform).filter((platform) => names.has(binaryName(platform)));
}

/** Installs in a new project, with an environment that keeps everything inside it. */
async function install(t, registry, program, args, more = {}) {
  const folder = makeFolder();
  writeFiles(folder, { ...files, ...more });
  const env = {
    PATH: process.env.PATH,
    HOME: makeFolder(),
    npm_config_registry: registry.url,
    npm_config_cache: makeFolder(),
    npm_config_audit: 'false',
    npm_config_update_notifier: 'false',
    YARN_NPM_REGISTRY_SERVER: registry.url,
    YARN_UNSAFE_HTTP_WHITELIST: '127.0.0.1',
    YARN_ENABLE_TELEMETRY: '0',
    YARN_ENABLE_GLOBAL_CACHE: 'false',
    YARN_ENABLE_IMMUTABLE_INSTALLS: 'false',
  };
  const answer = await run(program, args, { cwd: folder, env }).catch((error) => {
    throw new Error(`${error.message}\n${error.stdout}\n${error.stderr}`);
  });
  return { folder, output: answer.stdout + answer.stderr };
}

async function worksIn(t, folder, execArgv = []) {
  for (const file of ['index.cjs', 'index.mjs', 'worker.cjs']) {
    await holds(t, server, folder, [file], {
      execArgv,
      env: { NODE_OPTIONS: '' },
      warnings: /^$|ExperimentalWarning/,
    });
  }
}

test('npm', async (t) => {
  const registry = await startRegistry(t, folders, makeFolder());
  const { folder, output } = await install(t, registry, 'npm', ['install', '--foreground-scripts']);
  assert.match(output, /added 2 packages/);
  assert.doesNotMatch(output, /warn/i);
  assert.deepEqual(installedPlatforms(path.join(folder, 'node_modules')), [here]);
  const lock = JSON.parse(fs.readFileSync(path.join(folder, 'package-lock.json'), 'utf8'));
  // npm's lock file lists the packages of all platforms, so that it also serves the others.
  assert.equal(Object.keys(lock.packages).length, 2 + targets.length);
  await worksIn(t, folder);
});

test('npm ci, from the lock file of another platform', async (t) => {
  const registry = await startRegistry(t, folders, makeFolder());
  const first = await install(t, registry, 'npm', [
    'install',
    '--os=darwin',
    '--cpu=arm64',
    '--package-lock-only',
  ]);
  const lock = fs.readFileSync(path.join(first.folder, 'package-lock.json'), 'utf8');
  const { folder } = await install(t, registry, 'npm', ['ci'], { 'package-lock.json': lock });
  assert.deepEqual(installedPlatforms(path.join(folder, 'node_modules')), [here]);
  await worksIn(t, folder);
});

for (const [libc, platform] of [
  ['musl', 'linux-x64-musl'],
  ['glibc', 'linux-x64-gnu'],
]) {
  test(`npm on Linux with ${libc} takes ${platform}`, async (t) => {
    const registry = await startRegistry(t, folders, makeFolder());
    const args = ['install', '--os=linux', '--cpu=x64', `--libc=${libc}`];
    const { folder } = await install(t, registry, 'npm', args);
    assert.deepEqual(installedPlatforms(path.join(folder, 'node_modules')), [platform]);
  });
}

test('npm without optional dependencies: the first call fails and says what is missing', async (t) => {
  const registry = await startRegistry(t, folders, makeFolder());
  const { folder } = await install(t, registry, 'npm', ['install', '--omit=optional']);
  assert.deepEqual(installedPlatforms(path.join(folder, 'node_modules')), []);
  const code = `new (require('redis-reservation'))('w', 'h', 1, 0, 2, false).lock('x', (error) => console.log(error.message))`;
  const { stdout } = await run(process.execPath, ['-e', code], { cwd: folder });
  assert.match(
    stdout,
    new RegExp(`Install the package ${packageName(here)}: it is an optional dependency, left out by`),
  );
});

for (const linker of ['isolated', 'hoisted', 'pnp']) {
  test(`pnpm, node-linker=${linker}`, async (t) => {
    const registry = await startRegistry(t, folders, makeFolder());
    const pnpm = path.join(provideTool('pnpm'), 'pnpm', 'bin', 'pnpm.cjs');
    const store = makeFolder();
    const args = [pnpm, 'install', '--store-dir', store, `--config.node-linker=${linker}`];
    const { folder, output } = await install(t, registry, process.execPath, args);
    assert.doesNotMatch(output, /WARN|Ignored build scripts/);
    assert.deepEqual(installedPlatforms(path.join(folder, 'node_modules')), [here]);
    await worksIn(t, folder, linker === 'pnp' ? ['-r', './.pnp.cjs'] : []);
  });
}

for (const linker of ['node-modules', 'pnpm', 'pnp']) {
  test(`yarn, nodeLinker: ${linker}`, async (t) => {
    const registry = await startRegistry(t, folders, makeFolder());
    const yarn = path.join(provideTool('yarn'), '@yarnpkg', 'cli-dist', 'bin', 'yarn.js');
    const more = { '.yarnrc.yml': `nodeLinker: ${linker}\npnpEnableEsmLoader: true\n`, 'yarn.lock': '' };
    const { folder } = await install(t, registry, process.execPath, [yarn, 'install'], more);
    if (linker === 'pnp') {
      assert.deepEqual(fs.readdirSync(path.join(folder, '.yarn', 'unplugged')).length, 1);
      await worksIn(t, folder, ['-r', './.pnp.cjs', '--loader', './.pnp.loader.mjs']);
    } else {
      assert.deepEqual(installedPlatforms(path.join(folder, 'node_modules')), [here]);
      await worksIn(t, folder);
    }
  });
}

test('the tarball of a checkout works alone', async (t) => {
  const { pack } = require('../../scripts/setup/pack');
  const registry = await startRegistry(t, [], makeFolder());
  const dependencies = { 'redis-reservation': `file:${pack(makeFolder())}` };
  const manifest = { 'package.json': JSON.stringify({ private: true, dependencies }) };
  const { folder, output } = await install(t, registry, 'npm', ['install'], manifest);
  assert.match(output, /added 1 package/);
  assert.deepEqual(registry.asked, [], 'nothing else was asked for');
  await worksIn(t, folder);
});

test('a release is published in order, the main package last', async () => {
  const script = path.join(root, 'scripts', 'release', 'publish.js');
  // Without a registry: npm reports what it would publish, and whether that was already published.
  const env = { ...process.env, npm_config_registry: 'http://127.0.0.1:1', npm_config_fetch_retries: '0' };
  const { stdout } = await run(process.execPath, [script, path.dirname(folders[0]), '--dry-run'], { env });
  const published = Array.from(stdout.matchAll(/^\+ (\S+)@/gm), ([, name]) => name);
  assert.equal(published.length, 9, stdout);
  assert.equal(published.at(-1), 'redis-reservation');
});
