// Makes a fresh clone ready to run: npm packages, the native build, a redis-server. It leaves alone what is there already,
// so a second run only looks. It uses only Node's own modules, since it installs all others.
'use strict';

const { installPackages } = require('./setup/packages');
const { buildNative } = require('./setup/native');
const { provideRedisServer } = require('./setup/redis-server');
const { SetupError } = require('./setup/run');

/** Installs what is missing, and returns the environment for demo and tests. */
function setup() {
  try {
    installPackages();
    buildNative();
    const server = provideRedisServer();
    return { ...process.env, REDIS_SERVER: server };
  } catch (error) {
    if (!(error instanceof SetupError)) throw error;
    process.stderr.write(`\n${error.message}\n`);
    process.exit(1);
  }
}

module.exports = { setup };

if (require.main === module) {
  const { REDIS_SERVER } = setup();
  process.stdout.write(`Everything is there; redis-server is ${REDIS_SERVER}.\n`);
}
