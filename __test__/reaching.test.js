// Connecting when the system refuses: no thread for the resolver, no file descriptor, sockets that lead nowhere. Each is an
// error of that call, with the system's name for it and the remedy.
'use strict';

const assert = require('node:assert/strict');
const fs = require('node:fs');
const net = require('node:net');
const path = require('node:path');
const { test } = require('node:test');
const { which } = require('../scripts/setup/run');
const { startChild } = require('./support/child');
const { makeReservation } = require('./support/reservation');
const { startServer } = require('./support/server');
const { until } = require('./support/wait');

const skip = which('prlimit') === null && 'limits are set with the prlimit command';

// A child that locks what its parent names, and reports the result.
const worker = `
  const fs = require('node:fs');
  const { once } = require('node:events');
  const { spawn } = require('node:child_process');
  const ReserveResource = require('./index.js');
  const files = [];
  let shell;
  const acts = {
    // The limit of threads belongs to a user, and root has none.
    become: (id) => process.getuid() === 0 && (process.setgid(id), process.setuid(id)),
    // Set by a process of the same user that is already there: there may be no room for another.
    limit: ([what, value]) => {
      shell = shell || spawn('sh', ['-c', 'while read limit; do prlimit --pid ' + process.pid + ' --$limit: && echo done; done'],
        { stdio: ['pipe', 'pipe', 'inherit'] });
      shell.stdin.write(what + '=' + value + '\\n');
      return once(shell.stdout, 'data').then(String);
    },
    exhaust: () => { try { for (;;) files.push(fs.openSync('/')); } catch ({ code }) { return code; } },
    relax: () => files.splice(0).forEach((file) => fs.closeSync(file)),
    lock: ([host, port, name]) => new ReserveResource('me', host, port, Infinity, 30, false).lock(name).catch(
      ({ code, message, cause }) => ({ code, message, reason: cause && cause.code })),
  };
  process.on('message', async ([act, argument]) => process.send([await acts[act](argument)]));
  fs.stat('/', () => process.send(['ready']));`;

async function startWorker(t) {
  const child = startChild(t, { code: worker });
  await child.message();
  const tell = async (...order) => {
    child.process.send(order);
    return (await child.message())[0];
  };
  return { child, tell };
}

test(
  'without a thread for the resolver, that attempt fails and the next one succeeds',
  { skip },
  async (t) => {
    const server = await startServer(t);
    const { child, tell } = await startWorker(t);
    assert.equal(await tell('lock', ['127.0.0.1', server.port, 'near']), true, 'an address needs none');
    await tell('become', 40000 + (process.pid % 20000));
    assert.equal(await tell('limit', ['nproc', 1]), 'done\n');
    const { code, reason, message } = await tell('lock', ['localhost', server.port, 'a']);
    assert.deepEqual([code, reason], ['ERR_REDIS_CONNECTION', 'EAGAIN'], message);
    assert.match(
      message,
      /getaddrinfo EAGAIN localhost: there is no thread.*\(ulimit -u, or the pids limit of the container\)/,
    );
    assert.equal(await tell('limit', ['nproc', 4000]), 'done\n');
    assert.equal(await tell('lock', ['localhost', server.port, 'a']), true);
    assert.equal(await tell('lock', ['127.0.0.1', server.port, 'b']), true);
    assert.doesNotMatch(child.stderr, /panicked/);
  },
);

test(
  'without a descriptor for the connection, that attempt fails and the next one succeeds',
  { skip },
  async (t) => {
    const [server, other] = [await startServer(t), await startServer(t)];
    const { tell } = await startWorker(t);
    assert.equal(await tell('lock', ['127.0.0.1', server.port, 'a']), true);
    assert.equal(await tell('limit', ['nofile', 100]), 'done\n');
    assert.equal(await tell('exhaust'), 'EMFILE');
    const { code, reason, message } = await tell('lock', ['127.0.0.1', other.port, 'a']);
    assert.deepEqual([code, reason], ['ERR_REDIS_CONNECTION', 'EMFILE'], message);
    assert.match(
      message,
      /connect EMFILE 127\.0\.0\.1:\d+: this process has no file descriptor left; .*\(ulimit -n\)$/,
    );
    await tell('relax');
    assert.equal(await tell('lock', ['127.0.0.1', other.port, 'a']), true);
  },
);

test('a socket that leads nowhere: the error names the reason', async (t) => {
  const socket = (name) => path.join(server.dir, name);
  const server = await startServer(t, { args: ['--tcp-backlog', '1'] });
  const failureAt = async (host) => {
    const error = await makeReservation(t, { host, port: null })
      .lock('job')
      .catch((reason) => reason);
    assert.equal(error.code, 'ERR_REDIS_CONNECTION', `${error}`);
    return [
      error.cause.code,
      error.message.replace(host, 'PATH').split(' failed - ')[1].replace(host, 'PATH'),
    ];
  };
  const long = socket('x'.repeat(120));
  assert.deepEqual(await failureAt(long), [
    'ENAMETOOLONG',
    `connect ENAMETOOLONG PATH: it has ${long.length} bytes, and the system takes about 100; give the socket a shorter path`,
  ]);
  assert.deepEqual(await failureAt(socket('none')), ['ENOENT', 'connect ENOENT PATH']);
  fs.writeFileSync(socket('file'), '');
  assert.deepEqual(await failureAt(socket('file')), ['ECONNREFUSED', 'connect ECONNREFUSED PATH']);
  assert.deepEqual(await failureAt(`${socket('file')}/below`), ['ENOTDIR', 'connect ENOTDIR PATH']);
});

test(
  'a socket with a full queue: the error names the reason',
  { skip: process.platform !== 'linux' && 'others wait for a place in it' },
  async (t) => {
    const server = await startServer(t, { args: ['--tcp-backlog', '1', '--unixsocket', 'r.sock'] });
    const host = path.join(server.dir, 'r.sock');
    server.pause();
    const queued = [];
    t.after(() => queued.forEach((one) => one.destroy()));
    let isFull = false;
    await until(
      () => {
        queued.push(net.connect(host).on('error', () => (isFull = true)));
        return isFull;
      },
      { what: 'a full queue' },
    );
    const error = await makeReservation(t, { host, port: null })
      .lock('job')
      .catch((reason) => reason);
    server.resume();
    assert.equal(error.code, 'ERR_REDIS_CONNECTION');
    assert.equal(error.cause.code, 'EAGAIN', error.message);
    assert.match(
      error.message,
      /connect EAGAIN .*r\.sock: nobody accepts what waits there; is redis stopped/,
    );
    assert.equal(await makeReservation(t, { host, port: null }).lock('job'), true);
  },
);
