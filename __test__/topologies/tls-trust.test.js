// Trust over TLS: authorities, host names, dates, client certificates, and the error of each mismatch.
'use strict';

const assert = require('node:assert/strict');
const crypto = require('node:crypto');
const fs = require('node:fs');
const { test } = require('node:test');
const { startChild } = require('../support/child');
const { keepLog } = require('../support/reservation');
const { certificates } = require('./support/certificates');
const { assertHidden, errorOf, reserve } = require('./support/looks');
const { startNode, withoutTls } = require('./support/node');
const { startTlsServer } = require('./support/tls-server');

const skip = withoutTls();

/** Locks and releases on a server with these TLS options. Resolves with the error, if any. */
async function attempt(t, server, tls, { options, ...settings } = {}) {
  const reservation = reserve(t, server, { tls, ...options }, settings);
  try {
    assert.equal(await reservation.lock('job'), true);
    assert.equal(await reservation.release(), 1);
    return null;
  } catch (error) {
    return error;
  }
}

/** The error of an untrusted server has the reason, by Node's code and in words. */
function assertUnreachable(error, { host = '127.0.0.1', port }, reason, words) {
  assert.ok(error instanceof Error, 'there is an error');
  assert.equal(error.code, 'ERR_REDIS_CONNECTION', error.message);
  assert.ok(error.message.startsWith(`Redis connection to ${host}:${port} failed - `), error.message);
  assert.match(error.message, words);
  if (reason) assert.equal(error.cause.code, reason);
}

test(
  'a server with an untrusted authority is refused, except with rejectUnauthorized: false',
  { skip },
  async (t) => {
    const { foreignCa } = certificates();
    const server = await startTlsServer(t);
    const start = performance.now();
    const given = [true, {}, { rejectUnauthorized: true }, { ca: foreignCa.cert }];
    const errors = await Promise.all(given.map((tls) => attempt(t, server, tls)));
    errors.push(
      await attempt(t, server, undefined, { host: `rediss://127.0.0.1:${server.port}`, port: null }),
    );
    for (const error of errors) {
      assertUnreachable(error, server, 'UNABLE_TO_VERIFY_LEAF_SIGNATURE', /certificate; set tls\.ca/);
    }
    assert.ok(performance.now() - start < 6000, `each in its half second: ${performance.now() - start} ms`);
    assert.doesNotMatch(
      await server.command('INFO', 'commandstats'),
      /cmdstat_(set|script|evalsha)\b/,
      'unsent',
    );
  },
);

test('a private authority is accepted in all forms of Node', { skip }, async (t) => {
  const { ca, foreignCa } = certificates();
  const server = await startTlsServer(t);
  const bytes = Buffer.from(ca.cert);
  const forms = {
    'a string': ca.cert,
    'a Buffer': bytes,
    'a Uint8Array': new Uint8Array(bytes),
    'an array': [ca.cert],
    'several in an array, in whatever form': [foreignCa.cert, bytes],
    'several in one text': `${foreignCa.cert}${ca.cert}`,
    'with Windows line ends and words around it': `An authority:\r\n${ca.cert.replace(/\n/g, '\r\n')}`,
  };
  for (const [form, value] of Object.entries(forms)) {
    assert.equal(await attempt(t, server, { ca: value }), null, form);
  }
  for (const scheme of ['rediss', 'valkeys']) {
    const url = `${scheme}://localhost:${server.port}`;
    assert.equal(await attempt(t, server, { ca: ca.cert }, { host: url, port: null }), null, url);
  }
});

test('NODE_EXTRA_CA_CERTS is trusted only without the option ca', { skip }, async (t) => {
  const { ca, foreignCa } = certificates();
  const server = await startTlsServer(t);
  const code = `
    const ReserveResource = require('./index.js');
    const answer = async (host, tls) => {
      const reservation = new ReserveResource('me', host, null, 1000, 30, false, '', { tls });
      try {
        await reservation.lock('job');
        return await reservation.release();
      } catch ({ code, cause }) {
        return [code, cause && cause.code];
      }
    };
    const { URL: url, FOREIGN: ca } = process.env;
    Promise.all([answer(url), answer(url, true), answer(url, {}), answer(url, { ca })]).then((answers) => {
      process.send(answers);
      process.disconnect();
    });`;
  const env = { URL: `rediss://localhost:${server.port}`, FOREIGN: foreignCa.cert };
  const refused = ['ERR_REDIS_CONNECTION', 'UNABLE_TO_VERIFY_LEAF_SIGNATURE'];
  const [told, untold] = [ca.certFile, ''].map((file) =>
    startChild(t, { code }, { env: { ...env, NODE_EXTRA_CA_CERTS: file } }),
  );
  assert.deepEqual((await told.message()).at(-1), refused, 'an authority that is named is the only one');
  // All try the same lock: later ones find it held, and release nothing.
  assert.ok(told.messages.all[0].slice(0, 3).every((answer) => answer === 0 || answer === 1));
  assert.deepEqual(await untold.message(), [refused, refused, refused, refused]);
});

test(
  'a server that requires client certificates accepts a valid one, and the error says if one is missing or invalid',
  { skip },
  async (t) => {
    const { ca, client, foreignClient } = certificates();
    const server = await startTlsServer(t, { clients: 'yes' });
    const shown = ({ cert, key }) => ({ ca: ca.cert, cert, key });
    assert.equal(await attempt(t, server, shown(client)), null);
    const inPieces = { ca: ca.cert, cert: [Buffer.from(client.cert)], key: Buffer.from(client.key) };
    assert.equal(await attempt(t, server, inPieces), null, 'as bytes');
    const [none, foreign] = await Promise.all([
      attempt(t, server, { ca: ca.cert }),
      attempt(t, server, shown(foreignClient)),
    ]);
    for (const error of [none, foreign]) {
      // As an alert, or as a connection that closed before the alert was read.
      assertUnreachable(error, server, null, /certificate of its clients \(tls\.cert, tls\.key\)/);
      assertHidden(error, keyLine(foreignClient.key));
    }
  },
);

test('a certificate must be valid for the host, or for the option servername', { skip }, async (t) => {
  const { ca } = certificates();
  const [local, other] = await Promise.all([
    startTlsServer(t),
    startTlsServer(t, { certificate: 'otherHost' }),
  ]);
  for (const host of ['localhost', '127.0.0.1']) {
    assert.equal(await attempt(t, local, { ca: ca.cert }, { host }), null, host);
  }
  assert.equal(await attempt(t, other, { ca: ca.cert, servername: 'redis.example' }), null);
  const [byHost, byName] = await Promise.all([
    attempt(t, other, { ca: ca.cert }),
    attempt(t, local, { ca: ca.cert, servername: 'redis.example' }),
  ]);
  assertUnreachable(byHost, other, 'ERR_TLS_CERT_ALTNAME_INVALID', /not for "127\.0\.0\.1".*tls\.servername/);
  assertUnreachable(byName, local, 'ERR_TLS_CERT_ALTNAME_INVALID', /not for "redis\.example"/);
});

test('an expired certificate is refused', { skip }, async (t) => {
  const server = await startTlsServer(t, { certificate: 'expired' });
  const error = await attempt(t, server, { ca: certificates().ca.cert });
  assertUnreachable(error, server, 'CERT_HAS_EXPIRED', /has expired/);
});

test(
  'rejectUnauthorized: false accepts any certificate, and logs one warning for each server',
  { skip },
  async (t) => {
    const servers = await Promise.all(
      ['foreignServer', 'otherHost', 'expired'].map((certificate) => startTlsServer(t, { certificate })),
    );
    const log = keepLog();
    const tls = { rejectUnauthorized: false };
    for (const server of [...servers, ...servers, ...servers]) {
      assert.equal(await attempt(t, server, tls, { log }), null);
    }
    assert.deepEqual(
      log.of('tls-unverified').map(({ level, host, port }) => [level, host, port]),
      servers.map(({ host, port }) => ['warning', host, port]),
    );
    // Also with an authority, which then has no effect. A verified server gets no warning.
    const others = keepLog();
    const [verified, loose] = await Promise.all([startTlsServer(t), startTlsServer(t)]);
    const { ca, foreignCa } = certificates();
    assert.equal(await attempt(t, verified, { ca: ca.cert }, { log: others }), null);
    assert.equal(await attempt(t, loose, { ...tls, ca: foreignCa.cert }, { log: others }), null);
    assert.deepEqual(
      others.of('tls-unverified').map(({ port }) => port),
      [loose.port],
    );
  },
);

test('the first call reports unusable PEM, and never shows a key', async (t) => {
  const { ca, client, server, folder } = certificates();
  const encrypted = crypto
    .createPrivateKey(client.key)
    .export({ type: 'pkcs8', format: 'pem', cipher: 'aes-256-cbc', passphrase: 'a passphrase' });
  const cut = client.key.slice(0, client.key.length / 2);
  const garbled = (text) => text.replace(/\n(.{8})(.{8})/, '\n$2!$1');
  const identity = (changed) => ({ ca: ca.cert, cert: client.cert, key: client.key, ...changed });
  const cases = [
    [{ ca: 'no PEM' }, 'tls.ca'],
    [{ ca: '' }, 'tls.ca'],
    [{ ca: [] }, 'tls.ca'],
    [{ ca: client.key }, 'tls.ca'],
    [{ ca: garbled(ca.cert) }, 'tls.ca'],
    [{ ca: ca.cert.slice(0, 200) }, 'tls.ca'],
    [{ ca: ca.certFile }, 'tls.ca', /content of a PEM file/],
    [identity({ cert: client.key }), 'tls.cert'],
    [identity({ cert: garbled(client.cert) }), 'tls.cert'],
    [identity({ key: client.cert }), 'tls.key'],
    [identity({ key: cut }), 'tls.key'],
    [identity({ key: garbled(client.key) }), 'tls.key'],
    [identity({ key: encrypted }), 'tls.key', /encrypted/],
    [identity({ key: client.keyFile }), 'tls.key', /content of a PEM file/],
    [identity({ key: server.key }), 'tls.key'],
    [identity({ key: undefined }), 'tls.key', /missing/],
    [identity({ cert: undefined }), 'tls.cert', /missing/],
  ];
  // Nothing listens there: a connect would be another error.
  const nowhere = { host: '127.0.0.1', port: 1 };
  for (const [tls, option, words = /PEM|certificate|used together/] of cases) {
    for (const call of ['lock', 'wait_until_lock']) {
      const error = await errorOf(reserve(t, nowhere, { tls })[call]('job'));
      assert.equal(error.code, 'ERR_INVALID_ARG_VALUE', `${option}: ${error.message}`);
      assert.ok(error.message.includes(option), error.message);
      assert.match(error.message, words);
      assertHidden(error, keyLine(client.key), keyLine(server.key), keyLine(encrypted), folder);
    }
  }
  assert.ok(fs.existsSync(client.keyFile), 'they were good names of files');
});

test('TLS on one side only is an error in time', { skip }, async (t) => {
  const [secure, plain] = await Promise.all([startTlsServer(t), startNode(t)]);
  const start = performance.now();
  const options = { connect_timeout: 700 };
  const [unencrypted, encrypted] = await Promise.all([
    attempt(t, secure, undefined, { options }),
    attempt(t, plain, { ca: certificates().ca.cert }, { options }),
  ]);
  assertUnreachable(unencrypted, secure, 'ECONNRESET', /does it want TLS \(options\.tls\)\?/);
  // The server takes the greeting for the beginning of a command and waits for its end, or reports an error.
  assertUnreachable(encrypted, plain, null, /TLS/);
  assert.ok(performance.now() - start < 4000, `${performance.now() - start} ms`);
});

/** A line that is only in this key. */
function keyLine(key) {
  return key.split('\n')[1];
}
