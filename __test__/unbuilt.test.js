// Sources without a binary: what npm's `prepack` and `prepare` do. On copies of this checkout, without a real build (`npm run
// test:usage -- git` builds).
'use strict';

const assert = require('node:assert/strict');
const { spawnSync } = require('node:child_process');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { test } = require('node:test');
const { platform_name } = require('../lib/load');
const { binaryName } = require('../scripts/release/targets');
const { root } = require('./support/child');

const binary = binaryName(platform_name());
const manifest = require('../package.json');
const skip = process.platform === 'win32' && 'its cargo is a script for sh';

/** A copy of the sources. `cargo`: a script instead of cargo, which only reports its call. */
function makeCheckout(t, { cargo = true } = {}) {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'reservation-unbuilt-'));
  t.after(() => fs.rmSync(folder, { recursive: true, force: true }));
  for (const name of [
    ...manifest.files.filter((one) => !one.includes('*')),
    'package.json',
    'Cargo.toml',
    'scripts',
  ]) {
    fs.cpSync(path.join(root, name), path.join(folder, name), { recursive: true });
  }
  const tools = path.join(folder, 'tools');
  fs.mkdirSync(tools);
  fs.symlinkSync(process.execPath, path.join(tools, 'node'));
  if (cargo) fs.writeFileSync(path.join(tools, 'cargo'), '#!/bin/sh\necho "cargo $*"\n', { mode: 0o755 });
  return { folder, tools };
}

/** Runs a script of package.json as npm does. */
function runScript({ folder, tools }, name) {
  const env = { ...process.env, PATH: `${tools}:/bin`, CARGO_HOME: tools, HOME: folder };
  const { status, stdout, stderr } = spawnSync(manifest.scripts[name], {
    cwd: folder,
    env,
    encoding: 'utf8',
    shell: true,
  });
  return { status, text: stdout + stderr };
}

test('npm pack without a build fails, leaves no tarball, and says to build', (t) => {
  const { folder } = makeCheckout(t);
  const pack = () => spawnSync('npm', ['pack', '--offline'], { cwd: folder, encoding: 'utf8', shell: true });
  const left = () => fs.readdirSync(folder).filter((name) => name.endsWith('.tgz'));
  const { status, stdout, stderr } = pack();
  assert.notEqual(status, 0);
  assert.deepEqual(left(), []);
  assert.match(stdout + stderr, /no binary to pack[^]*npm run build/);
  // A binary for another platform is also accepted: it may be used there.
  fs.writeFileSync(path.join(folder, binaryName('darwin-arm64')), 'anything');
  fs.writeFileSync(path.join(folder, binary), 'anything');
  const again = pack();
  assert.equal(again.status, 0, again.stderr);
  assert.equal(left().length, 1);
  assert.doesNotMatch(again.stderr, /a build for tests/);
});

test('a debug build can be packed, with a warning', (t) => {
  const checkout = makeCheckout(t);
  fs.copyFileSync(path.join(root, binary), path.join(checkout.folder, binary));
  const isForTests = fs.readFileSync(path.join(root, binary)).includes('allocated_bytes');
  const { status, text } = runScript(checkout, 'prepack');
  assert.equal(status, 0, text);
  assert.equal(/a build for tests.*npm run build/.test(text), isForTests, text);
});

test('prepare makes a release build where there is none', { skip }, (t) => {
  const { status, text } = runScript(makeCheckout(t), 'prepare');
  assert.match(text, /cargo (build|zigbuild) --lib --profile release/);
  assert.notEqual(status, 0, 'that cargo left nothing behind');
});

test('prepare does nothing where there is any build', { skip }, (t) => {
  const checkout = makeCheckout(t);
  fs.writeFileSync(path.join(checkout.folder, binary), 'anything');
  assert.deepEqual(runScript(checkout, 'prepare'), { status: 0, text: '' });
  assert.equal(fs.readFileSync(path.join(checkout.folder, binary), 'utf8'), 'anything');
});

test('prepare without cargo says what is missing, and the remedy', { skip }, (t) => {
  const { status, text } = runScript(makeCheckout(t, { cargo: false }), 'prepare');
  assert.equal(status, 1);
  for (const part of [/no `cargo` was found/, /rustup/, /npm ci --ignore-scripts/]) assert.match(text, part);
});

test('prepare does nothing in an unpacked package', { skip }, (t) => {
  const checkout = makeCheckout(t);
  for (const name of ['Cargo.toml', 'scripts'])
    fs.rmSync(path.join(checkout.folder, name), { recursive: true });
  assert.deepEqual(runScript(checkout, 'prepare'), { status: 0, text: '' });
});
