// `npm run coverage`: which lines the JS tests run, of lib/ and index.js (by V8) and of src/ (by LLVM), as two tables. It
// measures and demands nothing. With names, only the test files whose names contain one of them are run.
'use strict';

const fs = require('node:fs');
const path = require('node:path');
const { parseArgs } = require('node:util');
const { setup } = require('./setup');
const { requireCargo } = require('./setup/native');
const { cache, npm, root, run, ask, say, SetupError } = require('./setup/run');
const { findTests, matches, testFiles, elsewhere } = require('./test');

const help = `npm run coverage -- [names…] [--html]

  names…    only the test files whose names contain one of these; else all, with those of test:topologies
  --html    also pages that show each line: .cache/coverage/js, .cache/coverage/rust
  --help    this text

Needs the component llvm-tools of rustup. Takes some 15 minutes for all.
`;

// Its report alone is used. Not a package of this project's own: few need it, and it brings forty others.
const C8 = 'c8@10.1.3';

const folder = path.join(cache, 'coverage');
const profiles = path.join(folder, 'llvm');
const traces = path.join(folder, 'v8');
const library = path.join(folder, 'redis-reservation.node');

// These test packages with another binary or none, so they cannot use this one.
const LOADING = /(?:face-load|packaging|unbuilt|exit)\.test\.js$/;

function main() {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      html: { type: 'boolean', default: false },
      help: { type: 'boolean', short: 'h', default: false },
    },
  });
  if (values.help) {
    process.stdout.write(help);
    return 0;
  }
  const files = [...findTests(), ...findTests(elsewhere)]
    .filter((file) => matches(file, positionals))
    .filter((file) => !LOADING.test(file));
  if (files.length === 0) {
    process.stderr.write(`No test file matches ${positionals.join(' or ')}.\n`);
    return 2;
  }
  const environment = setup();
  const tools = llvmTools();
  fs.rmSync(folder, { recursive: true, force: true });
  for (const place of [profiles, traces]) fs.mkdirSync(place, { recursive: true });
  build(environment);
  const passed = testFiles(files, 2, {
    ...environment,
    REDIS_RESERVATION_NATIVE: library,
    NODE_V8_COVERAGE: traces,
    // A few files, to which each process adds its counts at its end. %c would write continuously, which not every system can.
    LLVM_PROFILE_FILE: path.join(profiles, '%8m.profraw'),
  });
  if (!passed) say('some tests failed, so the figures may be too low');
  reportJavaScript(values.html);
  reportRust(tools, values.html);
  return 0;
}

/** The programs of rustc's LLVM version: others cannot read its profiles. */
function llvmTools() {
  requireCargo();
  const host = /^host: (.*)$/m.exec(ask('rustc', ['-vV']))[1];
  const place = path.join(ask('rustc', ['--print', 'sysroot']).trim(), 'lib', 'rustlib', host, 'bin');
  const [profdata, cov] = ['llvm-profdata', 'llvm-cov'].map((name) => path.join(place, name));
  if (ask(cov, ['--version']) === null) {
    throw new SetupError(
      'The component llvm-tools is needed: it reads what the tests have run of src/.\n' +
        'Install it, then run the command again: rustup component add llvm-tools',
    );
  }
  return { profdata, cov };
}

/** A build with counters, in a separate folder, so that it does not replace the other builds. */
function build(environment) {
  const target = path.join(root, 'target', 'coverage');
  // Build scripts and macros have counters, too, and would write them wherever they run.
  const counts = path.join(folder, 'build', '%8m.profraw');
  const env = { ...environment, CARGO_TARGET_DIR: target, LLVM_PROFILE_FILE: counts };
  env.RUSTFLAGS = '-C instrument-coverage';
  const words = ['build', '--lib', '--locked', '--profile', 'fast', '--features', 'count-allocations'];
  if (!run('cargo', words, { env })) throw new SetupError('The build failed; its messages are above.');
  const names = ['libredis_reservation.so', 'libredis_reservation.dylib', 'redis_reservation.dll'];
  const built = names.map((name) => path.join(target, 'fast', name)).find((file) => fs.existsSync(file));
  fs.copyFileSync(built, library);
}

function reportJavaScript(html) {
  const kinds = html ? ['text', 'html'] : ['text'];
  npm([
    'exec',
    '--yes',
    '--',
    C8,
    'report',
    `--temp-directory=${traces}`,
    `--reports-dir=${path.join(folder, 'js')}`,
    '--all',
    '--include=lib/**',
    '--include=index.js',
    ...kinds.map((kind) => `--reporter=${kind}`),
  ]);
}

function reportRust({ profdata, cov }, html) {
  const merged = path.join(folder, 'all.profdata');
  const raw = fs.readdirSync(profiles).map((name) => path.join(profiles, name));
  // A process that was killed may have left a broken one.
  if (!run(profdata, ['merge', '--failure-mode=all', '-sparse', '-o', merged, ...raw])) return;
  const words = [
    library,
    `-instr-profile=${merged}`,
    '-ignore-filename-regex=(/registry/|/rustc/|src/tests/)',
  ];
  run(cov, ['report', ...words, '--show-branch-summary=false', '--show-region-summary=false']);
  if (html) run(cov, ['show', ...words, '-format=html', `-output-dir=${path.join(folder, 'rust')}`]);
}

try {
  process.exitCode = main();
} catch (error) {
  if (!(error instanceof SetupError)) throw error;
  process.stderr.write(`${error.message}\n`);
  process.exitCode = 1;
}
