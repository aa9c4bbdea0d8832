// The loader: its errors when the native part is absent, broken, or for another system. Runs on copies of the package
// without a .node file.
'use strict';

const assert = require('node:assert/strict');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { test } = require('node:test');
const { platform_name } = require('../lib/load');
const { startChild } = require('./support/child');

const root = path.resolve(__dirname, '..');
const manifest = require('../package.json');
const platform = platform_name();

/** A copy of the published files as an installed package, without the native part; of a release, with the platforms' names. */
function install(t, { released = false } = {}) {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'reservation-load-'));
  t.after(() => fs.rmSync(folder, { recursive: true, force: true }));
  const installed = path.join(folder, 'node_modules', 'redis-reservation');
  fs.mkdirSync(installed, { recursive: true });
  for (const name of ['index.js', 'lib', 'package.json']) {
    fs.cpSync(path.join(root, name), path.join(installed, name), { recursive: true });
  }
  if (released) {
    const optionalDependencies = { [`redis-reservation-${platform}`]: manifest.version };
    fs.writeFileSync(
      path.join(installed, 'package.json'),
      JSON.stringify({ ...manifest, optionalDependencies }),
    );
  }
  return { folder, installed };
}

/** The answers of two calls and a release there. */
async function attempt(t, folder, { env = {}, before = '' } = {}) {
  const code = `${before}
    const ReserveResource = require('redis-reservation');
    const reservation = new ReserveResource('w', '127.0.0.1', 1, 0, 2, false);
    const told = (error) => ({ code: error.code, message: error.message, name: error.name, cause: error.cause && error.cause.code });
    (async () => {
      const first = await reservation.lock('r').catch(told);
      const second = await reservation.wait_until_lock('r').catch(told);
      process.send({ first, second, released: await reservation.release(), held: reservation.held });
      process.disconnect();
    })();`;
  const child = startChild(t, { code }, { cwd: folder, env: { REDIS_RESERVATION_NATIVE: '', ...env } });
  const answers = await child.message();
  assert.equal((await child.exited).code, 0, child.stderr);
  assert.equal(child.stderr, '');
  assert.deepEqual(answers.second, answers.first);
  assert.equal(answers.released, 0);
  assert.equal(answers.held, false);
  assert.equal(answers.first.code, 'ERR_NATIVE_LOAD');
  assert.equal(answers.first.name, 'NativeLoadError');
  return answers.first;
}

test('nothing installed: the error lists every file and package that was tried, and the remedy', async (t) => {
  const { folder, installed } = install(t, { released: true });
  const { message, cause } = await attempt(t, folder);
  assert.ok(message.includes(`could not be loaded on ${platform}, Node ${process.version}`), message);
  assert.ok(
    message.includes(`${fs.realpathSync(installed)}/redis-reservation.${platform}.node: not there`),
    message,
  );
  assert.ok(message.includes(`redis-reservation-${platform}: not there`), message);
  assert.ok(message.includes(`Install the package redis-reservation-${platform}`), message);
  assert.equal(cause, 'MODULE_NOT_FOUND');
});

test('a package whose name is not one of ours is neither loaded nor recommended', async (t) => {
  const { folder } = install(t);
  const other = path.join(folder, 'node_modules', `redis-reservation-${platform}`);
  fs.mkdirSync(other);
  const taken = path.join(folder, 'loaded');
  fs.writeFileSync(
    path.join(other, 'index.js'),
    `require('fs').writeFileSync(${JSON.stringify(taken)}, ''); module.exports = { ReserveResource() {} };`,
  );
  const { message } = await attempt(t, folder);
  assert.equal(fs.existsSync(taken), false, 'anybody could have published it');
  assert.doesNotMatch(message, /redis-reservation-(linux|darwin|win32)/);
  assert.match(message, /was packed without its native part.*`npm run build`, then `npm pack`/);
});

test('an installed package of another platform: the error names that platform', async (t) => {
  const { folder, installed } = install(t);
  for (const one of ['darwin-arm64', 'win32-x64-msvc']) {
    fs.writeFileSync(path.join(installed, `redis-reservation.${one}.node`), one);
  }
  const { message } = await attempt(t, folder);
  assert.match(message, /was packed for darwin-arm64, win32-x64-msvc alone/);
  assert.ok(message.includes(`on ${platform}: run \`npm run build\``), message);
});

test('a bundle without package.json: the error says where the file must be', async (t) => {
  const { folder, installed } = install(t);
  // The application may have a package.json of its own there.
  fs.writeFileSync(
    path.join(installed, 'package.json'),
    JSON.stringify({ name: 'app', optionalDependencies: {} }),
  );
  const { message } = await attempt(t, folder);
  assert.match(message, /beside the bundle/);
  assert.doesNotMatch(message, /Install the package/);
});

test('a source checkout without a binary: the error says to build it', async (t) => {
  const { folder, installed } = install(t);
  fs.writeFileSync(path.join(installed, 'Cargo.toml'), '');
  const { message } = await attempt(t, folder);
  assert.match(message, /run `npm run build`/);
});

test('a file that the system cannot load: the error has the system’s message', async (t) => {
  const { folder, installed } = install(t);
  fs.writeFileSync(path.join(installed, `redis-reservation.${platform}.node`), 'no library');
  const { message, cause } = await attempt(t, folder);
  assert.ok(message.includes(`redis-reservation.${platform}.node: `), message);
  assert.doesNotMatch(message, new RegExp(`${platform}\\.node: not there`));
  assert.match(message, /this system refuses it/);
  assert.equal(cause, 'ERR_DLOPEN_FAILED');
});

test('a platform package without its file: the error says so, not that the package is absent', async (t) => {
  const { folder } = install(t, { released: true });
  const other = path.join(folder, 'node_modules', `redis-reservation-${platform}`);
  fs.mkdirSync(other);
  fs.writeFileSync(path.join(other, 'index.js'), 'module.exports = require("./gone.node");');
  const { message } = await attempt(t, folder);
  assert.ok(message.includes(`redis-reservation-${platform}: Cannot find module './gone.node'`), message);
});

test('the loader finds the platform package', async (t) => {
  const { folder } = install(t, { released: true });
  const other = path.join(folder, 'node_modules', `redis-reservation-${platform}`);
  fs.mkdirSync(other);
  const built = path.join(root, `redis-reservation.${platform}.node`);
  fs.writeFileSync(path.join(other, 'index.js'), `module.exports = require(${JSON.stringify(built)});`);
  const code = `
    const ReserveResource = require('redis-reservation');
    new ReserveResource('w', '127.0.0.1', 1, 0, 2, false).lock('r', (error) => process.send(error.code));
    setTimeout(() => process.disconnect(), 2000).unref();
    process.once('message', () => process.disconnect());`;
  const child = startChild(t, { code }, { cwd: folder });
  assert.equal(await child.message(), 'ERR_REDIS_CONNECTION');
  child.process.send('enough');
  assert.equal((await child.exited).code, 0, child.stderr);
});

test('a platform without a build: the error lists those that have one', async (t) => {
  const { folder } = install(t);
  const before = "Object.defineProperty(process, 'platform', { value: 'sunos' });";
  const { message } = await attempt(t, folder, { before });
  assert.match(message, /could not be loaded on sunos-/);
  assert.match(message, /no build for this platform.*linux-x64-gnu/);
});

test('REDIS_RESERVATION_NATIVE names the only file that is tried', async (t) => {
  const { folder } = install(t);
  const absent = await attempt(t, folder, { env: { REDIS_RESERVATION_NATIVE: 'gone.node' } });
  assert.ok(absent.message.includes(`${fs.realpathSync(folder)}/gone.node: not there`), absent.message);
  assert.match(absent.message, /REDIS_RESERVATION_NATIVE names that file/);
  fs.writeFileSync(path.join(folder, 'other.js'), 'exports.something = 1;');
  const other = await attempt(t, folder, { env: { REDIS_RESERVATION_NATIVE: 'other.js' } });
  assert.match(other.message, /not the native part of this package/);
});

for (const [words, limit] of [
  ['Error: x.node: cannot open shared object file: Too many open files', /ulimit -n/],
  ['Error loading shared library x.node: No file descriptors available', /ulimit -n/],
  ['EMFILE: too many open files, open x.node', /ulimit -n/],
  ['x.node: cannot open shared object file: Too many open files in system', /fs\.file-max/],
  ['x.node: failed to map segment from shared object: Cannot allocate memory', /ulimit -v/],
]) {
  test(`a shortage while loading: the error names the limit, and the next call tries again: ${words}`, async (t) => {
    const { folder } = install(t);
    const built = path.join(root, `redis-reservation.${platform}.node`);
    fs.writeFileSync(
      path.join(folder, 'short.js'),
      `if (!globalThis.mended) throw new Error(${JSON.stringify(words)});
       module.exports = require(${JSON.stringify(built)});`,
    );
    const code = `
      const ReserveResource = require('redis-reservation');
      const lock = () => new ReserveResource('w', '127.0.0.1', 1, 0, 2, false).lock('r').catch((error) => error);
      (async () => {
        const { code, name, message, cause } = await lock();
        const again = await lock();
        globalThis.mended = true;
        const mended = await lock();
        process.send({ code, name, message, cause: cause.message, again: again.message, mended: mended.code });
        process.disconnect();
      })();`;
    const child = startChild(t, { code }, { cwd: folder, env: { REDIS_RESERVATION_NATIVE: 'short.js' } });
    const { code: told, name, message, cause, again, mended } = await child.message();
    assert.deepEqual([told, name, cause], ['ERR_RESOURCE_SHORTAGE', 'ReservationError', words]);
    assert.match(message, limit);
    assert.match(message, /The next call tries again\.$/);
    assert.equal(again, message);
    assert.equal(mended, 'ERR_REDIS_CONNECTION');
  });
}

test('no descriptor while looking for the platform package: the next call finds it', async (t) => {
  if (process.platform === 'win32') return t.skip('no limit of descriptors here');
  const { folder } = install(t, { released: true });
  const other = path.join(folder, 'node_modules', `redis-reservation-${platform}`);
  const name = `redis-reservation.${platform}.node`;
  fs.mkdirSync(other);
  fs.copyFileSync(path.join(root, name), path.join(other, name));
  fs.writeFileSync(path.join(other, 'package.json'), JSON.stringify({ main: name }));
  const code = `
    const fs = require('node:fs');
    require('node:module');
    const ReserveResource = require('redis-reservation');
    const lock = () => new ReserveResource('w', '127.0.0.1', 1, 0, 2, false).lock('r').catch((error) => error);
    const taken = [];
    try { for (;;) taken.push(fs.openSync('/dev/null')); } catch {}
    (async () => {
      const { code, message, cause } = await lock();
      taken.forEach((descriptor) => fs.closeSync(descriptor));
      process.send({ code, message, cause: cause.code, later: (await lock()).code });
      process.disconnect();
    })();`;
  const through = ['sh', '-c', 'ulimit -n 64; exec "$@"', 'sh'];
  const child = startChild(t, { code }, { cwd: folder, env: { REDIS_RESERVATION_NATIVE: '' }, through });
  const { code: told, message, cause, later } = await child.message();
  assert.deepEqual([told, cause, later], ['ERR_RESOURCE_SHORTAGE', 'EMFILE', 'ERR_REDIS_CONNECTION']);
  assert.match(message, /`ulimit -n`/);
});

test('an error that only mentions memory is no shortage', async (t) => {
  const { folder } = install(t);
  const words = 'x.node: cannot allocate memory in static TLS block';
  fs.writeFileSync(path.join(folder, 'short.js'), `throw new Error(${JSON.stringify(words)});`);
  const { message } = await attempt(t, folder, { env: { REDIS_RESERVATION_NATIVE: 'short.js' } });
  assert.ok(message.includes(words), message);
});

test('after an installation is repaired, the next call succeeds', async (t) => {
  const { folder, installed } = install(t);
  const name = `redis-reservation.${platform}.node`;
  const code = `
    const fs = require('node:fs');
    const ReserveResource = require('redis-reservation');
    const lock = () => new ReserveResource('w', '127.0.0.1', 1, 0, 2, false).lock('r').catch(({ code }) => code);
    (async () => {
      const before = await lock();
      fs.copyFileSync(${JSON.stringify(path.join(root, name))}, ${JSON.stringify(path.join(installed, name))});
      process.send([before, await lock()]);
      process.disconnect();
    })();`;
  const child = startChild(t, { code }, { cwd: folder, env: { REDIS_RESERVATION_NATIVE: '' } });
  assert.deepEqual(await child.message(), ['ERR_NATIVE_LOAD', 'ERR_REDIS_CONNECTION']);
});

test('requiring the package and constructing load nothing native', async (t) => {
  const { folder } = install(t);
  const code = `
    const ReserveResource = require('redis-reservation');
    const reservation = new ReserveResource('w');
    reservation._init_redis();
    process.send([reservation.held, reservation.is_held('r'), typeof reservation.signal]);
    process.disconnect();`;
  const child = startChild(t, { code }, { cwd: folder });
  assert.deepEqual(await child.message(), [false, false, 'undefined']);
  assert.equal((await child.exited).code, 0, child.stderr);
});
