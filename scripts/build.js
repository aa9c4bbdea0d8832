// `npm run build` and `npm run build:debug`: compiles the native half and puts it beside index.js. On Linux a release is built
// with cargo-zigbuild, if that is installed, for the oldest supported glibc; otherwise for this system's glibc, with a notice.
// A release binary is checked before it is put in place.
'use strict';

const fs = require('node:fs');
const path = require('node:path');
const { parseArgs } = require('node:util');
const { root, run, ask } = require('./setup/run');
const { binaryName: nameHere, requireCargo } = require('./setup/native');
const { findZigbuild, howToGetZigbuild } = require('./setup/zigbuild');
const { checkBinary, FLOOR } = require('./binary/check');
const { targets, binaryName } = require('./release/targets');

const help = `npm run build -- [options]

  --profile NAME   a profile of Cargo.toml: "release" (the default), "fast"
  --target TRIPLE  one of ${targets.map(({ target }) => target).join(', ')}; this machine if not given
  --portable       for a release: without cargo-zigbuild, fail
  --help           this text
`;

function main() {
  const { values } = parseArgs({
    options: {
      profile: { type: 'string', default: 'release' },
      target: { type: 'string' },
      portable: { type: 'boolean', default: false },
      help: { type: 'boolean', short: 'h', default: false },
    },
  });
  if (values.help) {
    process.stdout.write(help);
    return 0;
  }
  const file = values.target ? binaryName(targetNamed(values.target).platform) : nameHere();
  requireCargo();
  const plan = planBuild(values, file);
  const flags = `${process.env.RUSTFLAGS || ''} ${plan.rustflags || ''}`.trim();
  const env = { ...process.env, ...plan.env, ...(flags && { RUSTFLAGS: flags }) };
  const args = [plan.command, '--lib', '--profile', values.profile, ...plan.args];
  // --locked: exactly the versions of the lock file.
  if (!run('cargo', [...args, '--locked'], { env })) return 1;
  const built = path.join(targetFolder(), plan.folder, values.profile, libraryName(file));
  // Only a published binary has to be small; the other profiles are for fast builds.
  const limit = values.profile === 'release' ? undefined : Infinity;
  return complaintsOf(built, plan, limit) ? 1 : put(built, path.join(root, file));
}

/** The features that only the tests need, and that a published binary must not have. */
const TEST_FEATURES = ['--features', 'count-allocations'];

/** How to call cargo: `{ command, args, folder, floor, env, rustflags }`. */
function planBuild({ profile, target, portable }, file) {
  const plain = {
    command: 'build',
    args: target ? ['--target', target] : [],
    folder: target || '',
    floor: null,
  };
  const isRelease = profile === 'release';
  if (!isRelease) plain.args.push(...TEST_FEATURES);
  if (!isRelease || !file.includes('.linux-')) return plain;
  const triple = target || targets.find(({ platform }) => binaryName(platform) === file).target;
  const musl = triple.endsWith('-musl');
  // An addon is a dynamic library, also on musl, where programs are linked statically.
  if (musl) plain.rustflags = '-C target-feature=-crt-static';
  const zigbuild = findZigbuild();
  if (zigbuild) {
    const args = ['--target', musl ? triple : `${triple}.${FLOOR}`];
    return { ...plain, command: 'zigbuild', args, folder: triple, floor: FLOOR, env: zigbuild };
  }
  if (portable) throw new Error(`--portable needs cargo-zigbuild: ${howToGetZigbuild()}`);
  process.stdout.write(
    'build: linked against the C library of this system; the result may not load on older ones.\n' +
      `build: for one that does, ${howToGetZigbuild()}\n`,
  );
  return plain;
}

function targetNamed(target) {
  const found = targets.find((one) => one.target === target);
  if (!found)
    throw new Error(`no target ${target}; there are ${targets.map((one) => one.target).join(', ')}`);
  return found;
}

/** Reports what was built, and why it must not be published: too large, or needing a newer glibc than the floor. */
function complaintsOf(built, { floor }, limit) {
  const { size, glibc, complaints } = checkBinary(built, { floor: floor || '999', limit });
  const needs = glibc ? `, needs glibc ${glibc} or newer` : '';
  process.stdout.write(`build: ${(size / 1024 / 1024).toFixed(2)} MB${needs}\n`);
  for (const complaint of complaints) process.stderr.write(`build: not usable: ${complaint}\n`);
  return complaints.length > 0;
}

/** Puts the file in place by a rename: a process that has loaded the old file keeps it, and none sees half of the new one. */
function put(built, file) {
  const fresh = `${file}.${process.pid}.tmp`;
  fs.copyFileSync(built, fresh);
  fs.renameSync(fresh, file);
  process.stdout.write(`build: ${path.basename(file)}\n`);
  return 0;
}

function targetFolder() {
  const metadata = ask('cargo', ['metadata', '--format-version=1', '--no-deps', '--offline']);
  return JSON.parse(metadata).target_directory;
}

function libraryName(file) {
  const name = 'redis_reservation';
  if (file.includes('.win32-')) return `${name}.dll`;
  return file.includes('.darwin-') ? `lib${name}.dylib` : `lib${name}.so`;
}

try {
  process.exitCode = main();
} catch (error) {
  process.stderr.write(`build: ${error.message}\n`);
  process.exitCode = 2;
}
