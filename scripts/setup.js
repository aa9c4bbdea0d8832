// Makes a fresh clone ready to run: npm packages, the native build, a redis-server. What is
// there already is left alone, so a second run only looks. Uses nothing but Node's own modules,
// because it is what brings all others.
'use strict';

const { installPackages } = require('./setup/packages');
const { buildNative } = require('./setup/native');
const { provideRedisServer } = require('./setup/redis-server');
const { SetupError } = require('./setup/run');

/** Does what is missing, and returns the environment that demo and tests are to run in. */
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
