// What is published: the files of the tarball, the packages of a release, the check of binaries, the version.
'use strict';

const assert = require('node:assert/strict');
const { execFile, execFileSync } = require('node:child_process');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { test } = require('node:test');
const { promisify } = require('node:util');
const { platform_name } = require('../lib/load');
const { checkBinary } = require('../scripts/binary/check');
const { readElf } = require('../scripts/binary/elf');
const { linkedCrates, notices, titleOf, NOTICES } = require('../scripts/release/notices');
const { newestEntry } = require('../scripts/release/changelog');
const { makePackages } = require('../scripts/release/packages');
const { targets, binaryName, packageName } = require('../scripts/release/targets');
const { packInto } = require('../scripts/setup/pack');
const { root } = require('./support/child');
const { filesBelow } = require('./support/sources');

const manifest = require('../package.json');
const here = platform_name();
const run = promisify(execFile);

function makeFolder(t) {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'reservation-release-'));
  t.after(() => fs.rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** Every file below a folder, by its path in it. */
function filesIn(folder) {
  const entries = fs.readdirSync(folder, { recursive: true, withFileTypes: true });
  const files = entries.filter((entry) => entry.isFile());
  return files
    .map((entry) => path.relative(folder, path.join(entry.path, entry.name)).replaceAll(path.sep, '/'))
    .sort();
}

const face = [
  'CHANGELOG.md',
  'LICENSE',
  'README.md',
  // The documents for callers. The rest of docs/ is about the project, and stays in the repository.
  ...['api.md', 'connecting.md', 'demo.svg', 'guarantees.md', 'logging.md', 'moving.md', 'runtimes.md'].map(
    (file) => `docs/${file}`,
  ),
  'index.d.ts',
  'index.js',
  ...['lib', 'lib-js'].flatMap(filesBelow),
  'package.json',
];

test('the tarball of a checkout has the JavaScript, the binary of this platform, and nothing else', (t) => {
  const installed = packInto(makeFolder(t));
  // A checkout may have binaries of several platforms. This platform's must be there.
  const files = filesIn(installed).filter((name) => !name.endsWith('.node') || name === binaryName(here));
  assert.deepEqual(files, [...face, NOTICES, binaryName(here)].sort());
  const text = fs.readFileSync(path.join(installed, 'package.json'), 'utf8');
  assert.equal(JSON.parse(text).optionalDependencies, undefined, 'a checkout needs no other package');
});

test('all paths that 0.4.0 could be required by lead to the same constructor', (t) => {
  const folder = makeFolder(t);
  packInto(folder);
  const code = `
    const ReserveResource = require('redis-reservation');
    const paths = ['/', '/index', '/index.js', '/lib-js', '/lib-js/', '/lib-js/index', '/lib-js/index.js'];
    const others = paths.filter((path) => require('redis-reservation' + path) !== ReserveResource);
    console.log(typeof ReserveResource, others, require('redis-reservation/package.json').name);`;
  const text = execFileSync(process.execPath, ['-e', code], { cwd: folder, encoding: 'utf8' });
  assert.equal(text, 'function [] redis-reservation\n');
});

test('in a release, the main package has no binary and names one package for each platform', (t) => {
  const [from, to] = [makeFolder(t), path.join(makeFolder(t), 'release')];
  for (const { platform } of targets) fs.writeFileSync(path.join(from, binaryName(platform)), platform);
  const folders = makePackages({ from, to, repository: 'somebody/redis-reservation' });
  assert.equal(folders.length, 9);
  const main = folders.at(-1); // published last
  assert.deepEqual(filesIn(main), face.slice().sort());
  const own = JSON.parse(fs.readFileSync(path.join(main, 'package.json'), 'utf8'));
  assert.equal(own.scripts, undefined);
  assert.equal(own.devDependencies, undefined);
  assert.deepEqual(own.exports, manifest.exports);
  assert.deepEqual(own.engines, manifest.engines);
  const page = 'https://github.com/somebody/redis-reservation';
  assert.deepEqual(
    [own.repository.url, own.bugs.url, own.homepage],
    [`git+${page}.git`, `${page}/issues`, `${page}#readme`],
  );
  const wanted = targets.map(({ platform }) => [packageName(platform), manifest.version]);
  assert.deepEqual(own.optionalDependencies, Object.fromEntries(wanted));
});

test('the package of a platform states os, cpu and libc for npm', (t) => {
  const [from, to] = [makeFolder(t), path.join(makeFolder(t), 'release')];
  for (const { platform } of targets) fs.writeFileSync(path.join(from, binaryName(platform)), platform);
  makePackages({ from, to });
  const seen = targets.map(({ platform }) => {
    const folder = path.join(to, packageName(platform));
    const files = ['LICENSE', 'README.md', NOTICES, 'package.json', binaryName(platform)];
    assert.deepEqual(filesIn(folder), files.sort());
    const {
      os: systems,
      cpu,
      libc,
      main,
      version,
      scripts,
      repository,
    } = JSON.parse(fs.readFileSync(path.join(folder, 'package.json'), 'utf8'));
    assert.deepEqual([main, version, scripts], [binaryName(platform), manifest.version, undefined]);
    assert.deepEqual(repository, manifest.repository);
    return [platform, ...systems, ...cpu, ...(libc || [])].join(' ');
  });
  assert.deepEqual(seen, [
    'linux-x64-gnu linux x64 glibc',
    'linux-arm64-gnu linux arm64 glibc',
    'linux-x64-musl linux x64 musl',
    'linux-arm64-musl linux arm64 musl',
    'darwin-x64 darwin x64',
    'darwin-arm64 darwin arm64',
    'win32-x64-msvc win32 x64',
    'win32-arm64-msvc win32 arm64',
  ]);
});

test('the loader, the build and the release agree on the names of platforms', () => {
  const loader = fs.readFileSync(path.join(root, 'lib', 'load.js'), 'utf8');
  for (const { platform } of targets) {
    assert.ok(loader.includes(`'../${binaryName(platform)}'`), binaryName(platform));
    assert.ok(loader.includes(`'${packageName(platform)}'`), packageName(platform));
  }
  assert.equal(Array.from(loader.matchAll(/require\('redis-reservation-/g)).length, targets.length);
  assert.equal(Array.from(loader.matchAll(/may_load\('redis-reservation-/g)).length, targets.length);
});

test('a release with a missing binary fails', (t) => {
  const from = makeFolder(t);
  assert.throws(() => makePackages({ from, to: path.join(from, 'to') }), /lacks .*linux-x64-gnu/);
});

test(
  'the binary is an addon that needs nothing unusual, and one that is too large is refused',
  { skip: process.platform !== 'linux' },
  () => {
    const file = path.join(root, binaryName(here));
    // A local build may need this system's C library, and may be large. A release may not.
    assert.deepEqual(checkBinary(file, { floor: '999', limit: Infinity }).complaints, []);
    assert.match(checkBinary(file, { limit: 1000 }).complaints.join(), /more than 1000/);
    if (here.endsWith('-gnu')) {
      assert.match(
        checkBinary(file, { floor: '2.1' }).complaints.join(),
        /needs glibc 2\.\d+, newer than 2\.1/,
      );
    }
  },
);

test('a file that is no addon is refused', { skip: process.platform !== 'linux' }, (t) => {
  const file = path.join(makeFolder(t), 'node.node');
  fs.copyFileSync('/bin/sh', file);
  assert.match(checkBinary(file, { floor: '999' }).complaints.join(), /no Node-API addon/);
  assert.equal(readElf(Buffer.alloc(100)), null);
});

test('the reader of binaries agrees with objdump', { skip: !hasObjdump() }, () => {
  const file = path.join(root, binaryName(here));
  const text = execFileSync('objdump', ['-p', file], { encoding: 'utf8' });
  const { needed, versions } = readElf(fs.readFileSync(file));
  assert.deepEqual(
    needed,
    Array.from(text.matchAll(/NEEDED\s+(\S+)/g), ([, name]) => name),
  );
  const seen = Array.from(text.matchAll(/^\s+0x\w+ 0x\w+ \d+ (\S+)$/gm), ([, name]) => name);
  assert.deepEqual(versions.map(({ version }) => version).sort(), seen.sort());
});

function hasObjdump() {
  try {
    execFileSync('objdump', ['--version'], { stdio: 'ignore' });
    return process.platform === 'linux';
  } catch {
    return false;
  }
}

test('all linked crates have a known and allowed licence', () => {
  const { target } = targets.find(({ platform }) => platform === here);
  const allowed = fs.readFileSync(path.join(root, 'deny.toml'), 'utf8').match(/^allow = \[([^\]]*)\]/m)[1];
  const isAllowed = (license) => allowed.includes(`"${license}"`);
  // `A OR B`: one of them is enough. `A AND B`: both must be allowed.
  const isGood = (license) =>
    license
      .replace(/[()]/g, '')
      .split(/ AND /)
      .every((part) => part.split(/ OR |\//).some(isAllowed));
  const crates = linkedCrates(target);
  assert.ok(crates.length > 10 && crates.some(({ name }) => name === 'redis'));
  const refused = crates.filter(({ license }) => !license || !isGood(license));
  assert.deepEqual(refused, []);
});

test('THIRD-PARTY.txt has the licence text of every linked crate', () => {
  const text = fs.readFileSync(path.join(root, NOTICES), 'utf8');
  const crates = linkedCrates(targets.find(({ platform }) => platform === here).target);
  const hint = 'the crates have changed: npm run notices';
  for (const one of crates) {
    assert.ok(text.includes(`\n${titleOf(one)}\n`), `${titleOf(one)}; ${hint}`);
    for (const each of one.texts) assert.ok(text.includes(each), `the text of ${titleOf(one)}; ${hint}`);
  }
  // No crate may be listed that is no longer linked.
  const locked = fs.readFileSync(path.join(root, 'Cargo.lock'), 'utf8');
  const listed = Array.from(text.matchAll(/^([\w-]+) (\d+\.\d+\.\d+\S*) \(.+\)$/gm));
  assert.ok(listed.length >= crates.length);
  for (const [, name, version] of listed) {
    assert.ok(locked.includes(`name = "${name}"\nversion = "${version}"\n`), `${name} ${version}; ${hint}`);
  }
  // A crate that contains the work of others has their licences, too.
  assert.match(
    text,
    /Copyright \(c\) 2018-20\d\d Microsoft Corporation/,
    'mimalloc, by the crate that has it inside',
  );
  assert.match(text, /Redistributions in binary form must reproduce/);
});

test('a text that several crates share appears once', () => {
  const crates = [1, 2].map((number) => ({
    name: `crate${number}`,
    version: '1.0.0',
    license: 'MIT',
    texts: ['Take it.'],
  }));
  const text = notices(crates);
  assert.match(text, /crate1 1\.0\.0 \(MIT\)\ncrate2 1\.0\.0 \(MIT\)\n\nTake it\.\n$/);
});

test('every file has the version of the newest changelog entry', async () => {
  const { version } = newestEntry(fs.readFileSync(path.join(root, 'CHANGELOG.md'), 'utf8'));
  const { stdout } = await run(process.execPath, ['scripts/version.js'], { cwd: root });
  assert.ok(stdout.startsWith(`${version}, `), stdout);
});

test('a release requires a date and the tag of its version', async () => {
  const failure = await run(process.execPath, ['scripts/version.js', '--release', 'v0.0.1'], {
    cwd: root,
  }).catch((error) => error);
  assert.equal(failure.code, 1);
  assert.match(failure.stderr, /the tag is v0\.0\.1/);
});

test('the newest changelog entry is found, and a malformed one is an error', () => {
  const text =
    '# Changelog\n\n## [1.2.3] - 2026-01-31\n\n### Added\n\n- One\n\n## [1.2.2] - 2026-01-01\n\n- Two\n';
  assert.deepEqual(newestEntry(text), { version: '1.2.3', date: '2026-01-31', notes: '### Added\n\n- One' });
  assert.equal(newestEntry('## [1.0.0] - unreleased\n\n- One\n').date, null);
  assert.throws(() => newestEntry('# Changelog\n'), /has no/);
  assert.throws(() => newestEntry('## 1.2.3\n\n- One\n'), /is not/);
  assert.throws(() => newestEntry('## [1.2.3] - soon\n\n- One\n'), /is not/);
  assert.throws(
    () => newestEntry('## [1.2.3] - unreleased\n\n## [1.2.2] - 2026-01-01\n\n- Two\n'),
    /says nothing/,
  );
});
