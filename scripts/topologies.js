// `npm run test:topologies`: the set-up, then the tests of TLS, users, unix sockets, sentinels and clusters, one file after
// another. `npm run test:topologies -- sentinel` runs only files whose names contain one of the words.
'use strict';

const { parseArgs } = require('node:util');
const { setup } = require('./setup');
const { SetupError, which } = require('./setup/run');
const { servers, provideServer } = require('./servers/list');
const { findTests, matches, testFiles, elsewhere } = require('./test');

const help = `npm run test:topologies -- [names…] [--server NAME]

  names…           only the test files of __test__/topologies whose names contain one of these
  --server NAME    on this server: ${servers.map(({ name }) => name).join(', ')}. Tests that need TLS are skipped
                   where it was built without, as redis-8 and valkey-9 are
  --help           this text
`;

function main() {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: { server: { type: 'string' }, help: { type: 'boolean', short: 'h', default: false } },
  });
  if (values.help) {
    process.stdout.write(help);
    return 0;
  }
  const files = findTests(elsewhere).filter((file) => matches(file, positionals));
  if (files.length === 0) {
    process.stderr.write(`No test file in __test__/topologies matches ${positionals.join(' or ')}.\n`);
    return 2;
  }
  const server = servers.find(({ name }) => name === values.server);
  if (values.server && !server) {
    process.stderr.write(
      `No server ${values.server}; there are ${servers.map(({ name }) => name).join(', ')}.\n`,
    );
    return 2;
  }
  const environment = setup();
  requireOpenssl();
  if (server) {
    const { program, version } = provideServer(server);
    process.stdout.write(`on ${version}\n`);
    environment.REDIS_SERVER = program;
  }
  // One at a time: they depend on time limits of sentinels and clusters, which a busy machine would exceed.
  return testFiles(files, 1, environment) ? 0 : 1;
}

/** Throws if openssl is missing. It is not installed automatically: almost every system has it. */
function requireOpenssl() {
  if (which('openssl')) return;
  throw new SetupError(
    'The `openssl` command is needed: it makes the certificates of the TLS tests.\n' +
      'Install it, then run the command again: sudo apt-get install openssl',
  );
}

try {
  process.exitCode = main();
} catch (error) {
  if (!(error instanceof SetupError) && !/^ERR_PARSE_ARGS/.test(error.code)) throw error;
  process.stderr.write(`${error.message}\n`);
  process.exitCode = 2;
}
