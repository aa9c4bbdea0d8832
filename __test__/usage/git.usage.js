// npm, pnpm and yarn install the package from its git repository: it builds itself there with cargo, and without cargo says
// what is missing. Each build takes a minute or more.
'use strict';

const assert = require('node:assert/strict');
const { execFile, execFileSync, spawn } = require('node:child_process');
const fs = require('node:fs');
const path = require('node:path');
const { after, before, test } = require('node:test');
const { promisify } = require('node:util');
const { platform_name } = require('../../lib/load');
const { binaryName } = require('../../scripts/release/targets');
const { root } = require('../support/child');
const { reap } = require('../support/reaper');
const { startServer, freePort } = require('../support/server');
const { until } = require('../support/wait');
const { makeFolder, writeFiles, use, holds } = require('./support');
const { provideTool } = require('./tools');

const run = promisify(execFile);
let server;
let daemon;
let repository; // in the form of a dependency
let head; // its commit

before(async () => {
  server = await startServer(null);
  const folder = commit(makeFolder());
  head = execFileSync('git', ['rev-parse', 'HEAD'], { cwd: folder, encoding: 'utf8' }).trim();
  repository = await serve(folder);
});

after(() => {
  daemon.kill();
  return server.stop();
});

/** By git's own protocol, which all managers understand and which needs no separate server. */
async function serve(folder) {
  const port = await freePort();
  const args = [
    'daemon',
    `--base-path=${folder}`,
    '--export-all',
    '--listen=127.0.0.1',
    `--port=${port}`,
    folder,
  ];
  daemon = spawn('git', args, { stdio: 'ignore' });
  reap(daemon);
  const url = `git://127.0.0.1:${port}/.git`;
  await until(() => run('git', ['ls-remote', url]), { timeout: 20000, what: "git's server" });
  return url;
}

/** A repository of the files of this checkout that git has, or would add. */
function commit(folder) {
  const options = { cwd: root, encoding: 'utf8' };
  const listed = execFileSync(
    'git',
    ['ls-files', '-z', '--cached', '--others', '--exclude-standard'],
    options,
  );
  for (const name of listed.split('\0').filter((one) => one && fs.existsSync(path.join(root, one)))) {
    fs.mkdirSync(path.dirname(path.join(folder, name)), { recursive: true });
    fs.copyFileSync(path.join(root, name), path.join(folder, name));
  }
  const git = (...args) =>
    execFileSync('git', ['-c', 'user.name=test', '-c', 'user.email=test@localhost', ...args], {
      cwd: folder,
    });
  git('init', '--quiet');
  git('add', '--all');
  git('commit', '--quiet', '--message', 'All of it');
  return folder;
}

/** A project that depends on the repository, and an environment in which builds share a cache. */
function makeDependent(more = {}) {
  const folder = makeFolder();
  const manifest = { private: true, dependencies: { 'redis-reservation': repository } };
  const code = `const ReserveResource = require('redis-reservation');${use}`;
  writeFiles(folder, { 'package.json': JSON.stringify({ ...manifest, ...more }), 'index.cjs': code });
  const env = { ...process.env, CARGO_TARGET_DIR: path.join(root, 'target', 'git-dependency') };
  // Variables of the npm that runs these tests.
  for (const name of Object.keys(env)) if (/^npm_/.test(name)) delete env[name];
  return { folder, env };
}

async function install({ folder, env }, program, args) {
  const answer = await run(program, args, { cwd: folder, env, maxBuffer: 1 << 26 }).catch((error) => {
    throw new Error(`${error.message}\n${error.stdout}\n${error.stderr}`);
  });
  return answer.stdout + answer.stderr;
}

function isBuilt(folder) {
  const installed = path.join(folder, 'node_modules', 'redis-reservation');
  return fs.readdirSync(installed).includes(binaryName(platform_name()));
}

test('npm', async (t) => {
  const project = makeDependent();
  await install(project, 'npm', ['install']);
  assert.ok(isBuilt(project.folder));
  await holds(t, server, project.folder, ['index.cjs']);
});

test('pnpm, with permission to build', async (t) => {
  const project = makeDependent();
  // The name that pnpm's error would give.
  const name = `redis-reservation@git+${repository}#${head}`;
  writeFiles(project.folder, { 'pnpm-workspace.yaml': `onlyBuiltDependencies:\n  - "${name}"\n` });
  const pnpm = path.join(provideTool('pnpm'), 'pnpm', 'bin', 'pnpm.cjs');
  await install(project, process.execPath, [pnpm, 'install', '--store-dir', makeFolder()]);
  assert.ok(isBuilt(project.folder));
  await holds(t, server, project.folder, ['index.cjs']);
});

test('yarn, with permission to fetch from git', async (t) => {
  const project = makeDependent();
  const yarn = path.join(provideTool('yarn'), '@yarnpkg', 'cli-dist', 'bin', 'yarn.js');
  writeFiles(project.folder, {
    '.yarnrc.yml': [
      'nodeLinker: node-modules',
      'enableImmutableInstalls: false',
      'enableTelemetry: false',
      'approvedGitRepositories: ["**"]\n',
    ].join('\n'),
    'yarn.lock': '',
  });
  await install(project, process.execPath, [yarn, 'install']);
  assert.ok(isBuilt(project.folder));
  await holds(t, server, project.folder, ['index.cjs']);
});

test('without cargo the install fails, and says why', async () => {
  const { folder, env } = makeDependent();
  const tools = makeFolder();
  // As if there were no cargo.
  fs.writeFileSync(path.join(tools, 'cargo'), '#!/bin/sh\nexit 127\n', { mode: 0o755 });
  const PATH = `${tools}${path.delimiter}${env.PATH}`;
  const bare = { ...env, PATH, CARGO_HOME: makeFolder(), npm_config_cache: makeFolder() };
  const error = await install({ folder, env: bare }, 'npm', ['install']).then(
    () => assert.fail('it was installed'),
    (caught) => caught,
  );
  assert.match(error.message, /no `cargo` was found/);
  assert.match(error.message, /rustup/);
});
