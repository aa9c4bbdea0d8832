// Keys, signatures and ciphers of TLS that Node accepts and this package does not: the error names each one, and what to use
// instead. Also similar ones that are accepted.
'use strict';

const assert = require('node:assert/strict');
const { spawnSync } = require('node:child_process');
const { once } = require('node:events');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { test } = require('node:test');
const tls = require('node:tls');
const { makeReservation } = require('../support/reservation');
const { removeAtEnd } = require('../support/reaper');
const { withoutTls } = require('./support/node');

const skip = withoutTls();

let folder;

function openssl(...args) {
  const { status, stderr } = spawnSync('openssl', args, { encoding: 'utf8', cwd: folder });
  assert.equal(status, 0, `openssl ${args.join(' ')}: ${stderr}`);
}

const ec = (curve) => ['-algorithm', 'EC', '-pkeyopt', `ec_paramgen_curve:${curve}`];
const rsa = (bits, algorithm = 'RSA') => ['-algorithm', algorithm, '-pkeyopt', `rsa_keygen_bits:${bits}`];

// Made in each process, only those that a test uses.
const made = new Map();

/** An authority, or a certificate that it signs: { cert, key }. */
function make(kind, authority, ...how) {
  const name = [...kind, ...(authority ? authority.kind : []), ...how].join(' ');
  if (!made.has(name)) made.set(name, { ...makeFiles(kind, authority, how), kind });
  return made.get(name);
}

function makeFiles(kind, authority, how) {
  if (folder === undefined) {
    folder = fs.mkdtempSync(path.join(os.tmpdir(), 'reservation-algorithms-'));
    removeAtEnd(folder);
  }
  const file = `${made.size}`;
  openssl('genpkey', ...kind, '-out', `${file}.key`);
  const key = ['-new', '-key', `${file}.key`];
  if (authority === undefined) {
    const uses = ['basicConstraints=critical,CA:TRUE', 'keyUsage=keyCertSign'].flatMap((use) => [
      '-addext',
      use,
    ]);
    openssl('req', '-x509', ...key, '-subj', '/CN=Authority', '-days', '2', ...uses, '-out', `${file}.pem`);
  } else {
    const extensions = path.join(folder, `${file}.ext`);
    fs.writeFileSync(extensions, 'subjectAltName=IP:127.0.0.1\n');
    openssl('req', ...key, '-subj', '/CN=localhost', '-out', `${file}.csr`);
    const by = [
      '-CA',
      `${authority.file}.pem`,
      '-CAkey',
      `${authority.file}.key`,
      '-set_serial',
      `${made.size}`,
    ];
    openssl(
      'x509',
      '-req',
      '-in',
      `${file}.csr`,
      ...by,
      '-days',
      '1',
      '-extfile',
      extensions,
      '-out',
      `${file}.pem`,
      ...how,
    );
  }
  const read = (end) => fs.readFileSync(path.join(folder, `${file}.${end}`), 'utf8');
  return { file, cert: read('pem'), key: read('key') };
}

/** The error of a lock on a server with this certificate and these settings. The server only does the TLS handshake. */
async function failureAt(t, { cert, key }, authority, settings) {
  const server = tls.createServer({ cert, key, ciphers: 'DEFAULT@SECLEVEL=0', ...settings }, () => {});
  server.on('tlsClientError', () => {});
  server.on('secureConnection', (socket) => socket.on('error', () => {}));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => server.close());
  const { port } = server.address();
  const options = { tls: { ca: authority.cert }, connect_timeout: 1000 };
  const error = await makeReservation(t, { host: '127.0.0.1', port }, { options })
    .lock('job')
    .catch((reason) => reason);
  assert.equal(error.code, 'ERR_REDIS_CONNECTION', `${error.message}`);
  assert.ok(error.message.length < 500, error.message);
  return { reason: error.cause.code, detail: error.message.split(' failed - ')[1] };
}

const TAKEN = ['ETIMEDOUT', /: handshake: the server takes the connection and says nothing/];
const REFUSED = [
  'ERR_SSL_ALERT',
  /does it want a certificate of its clients.* a P-521 or an RSA-PSS key; key exchange by RSA, by DHE or on P-521; ciphers with CBC$/,
];
const unsupported = (what) => [
  'ERR_TLS_CERT_UNSUPPORTED',
  new RegExp(`uses ${what}, which is not supported; use P-256, P-384, Ed25519 or RSA`),
];
const SHORT = ['CERT_SIGNATURE_FAILURE', /RSA of less than 2048 bits, that is why: it is not supported/];

test('keys and signatures of servers and of authorities', { skip }, async (t) => {
  const [p256, p384, p521] = ['P-256', 'P-384', 'P-521'].map((curve) => make(ec(curve)));
  const [short, long, pss] = [make(rsa(1024)), make(rsa(2048)), make(rsa(2048, 'RSA-PSS'))];
  for (const [what, kind, authority, [reason, detail], ...how] of [
    ['P-256', ec('P-256'), p256, TAKEN],
    ['Ed25519', ['-algorithm', 'ED25519'], p256, TAKEN],
    ['P-384 of P-384', ec('P-384'), p384, TAKEN],
    ['RSA of 2048 bits', rsa(2048), long, TAKEN],
    ['P-521', ec('P-521'), p256, REFUSED],
    ['RSA-PSS', rsa(2048, 'RSA-PSS'), long, REFUSED],
    ['RSA of 1024 bits', rsa(1024), long, SHORT],
    ['an authority of 1024 bits', rsa(2048), short, SHORT],
    ['an authority of P-521', ec('P-256'), p521, unsupported('a key of P-521')],
    ['an authority of P-521 with SHA-512', ec('P-256'), p521, unsupported('a key of P-521'), '-sha512'],
    [
      'an authority of RSA-PSS',
      rsa(2048),
      pss,
      unsupported('RSA-PSS with a salt of another length than its hash'),
    ],
    ['SHA-1', rsa(2048), long, unsupported('SHA-1'), '-sha1'],
    ['SHA-1 of an elliptic curve', ec('P-256'), p256, unsupported('SHA-1'), '-sha1'],
  ]) {
    const failure = await failureAt(t, make(kind, authority, ...how), authority);
    assert.equal(failure.reason, reason, `${what}: ${failure.detail}`);
    assert.match(failure.detail, detail, what);
  }
});

test('key exchange, ciphers and versions', { skip }, async (t) => {
  const authority = make(rsa(2048));
  const certificate = make(rsa(2048), authority);
  const old = { maxVersion: 'TLSv1.2' };
  for (const [what, settings, [reason, detail]] of [
    ['TLS 1.2 with AES-GCM', { ...old, ciphers: 'ECDHE-RSA-AES128-GCM-SHA256' }, TAKEN],
    ['RSA key exchange', { ...old, ciphers: 'AES128-GCM-SHA256' }, REFUSED],
    ['CBC', { ...old, ciphers: 'ECDHE-RSA-AES128-SHA256' }, REFUSED],
    ['P-521 alone', { ecdhCurve: 'P-521' }, REFUSED],
    [
      'TLS 1.1',
      { minVersion: 'TLSv1.1', maxVersion: 'TLSv1.1' },
      ['ERR_SSL_ALERT', /neither TLS 1\.2 nor 1\.3/],
    ],
  ]) {
    const failure = await failureAt(t, certificate, authority, settings);
    assert.equal(failure.reason, reason, `${what}: ${failure.detail}`);
    assert.match(failure.detail, detail, what);
  }
});

test('keys of clients: the error names the type of a key that cannot be used', { skip }, async (t) => {
  const authority = make(ec('P-256'));
  const nowhere = { host: '127.0.0.1', port: 1 };
  const use = async ({ cert, key }) => {
    const options = { tls: { ca: authority.cert, cert, key } };
    return makeReservation(t, nowhere, { options })
      .lock('job')
      .catch((reason) => reason);
  };
  for (const [kind, what] of [
    [ec('P-521'), 'a key of P-521'],
    [ec('secp256k1'), 'a key of secp256k1'],
    [rsa(1024), 'an RSA key of another size'],
    [rsa(2048, 'RSA-PSS'), 'an RSA-PSS key'],
  ]) {
    const error = await use(make(kind, authority));
    assert.equal(error.code, 'ERR_INVALID_ARG_VALUE', error.message);
    assert.equal(
      error.message,
      `tls.key is ${what}, which is not supported; use one of P-256, P-384, Ed25519, or RSA of 2048 to 4096 bits`,
    );
  }
  // Also in the older form of openssl.
  const { cert, key } = make(ec('P-521'), authority);
  openssl('ec', '-in', `${make(ec('P-521'), authority).file}.key`, '-out', 'sec1.key');
  const sec1 = fs.readFileSync(path.join(folder, 'sec1.key'), 'utf8');
  assert.ok(sec1.includes('EC PRIVATE KEY') && sec1 !== key);
  assert.match((await use({ cert, key: sec1 })).message, /^tls\.key is a key of P-521/);
  for (const kind of [ec('P-384'), rsa(2048), ['-algorithm', 'ED25519']]) {
    assert.match((await use(make(kind, authority))).message, /ECONNREFUSED/);
  }
});

test('an authority from files and from environment variables is accepted', { skip }, async (t) => {
  const authority = make(ec('P-256'));
  for (const dressed of [`\ufeff${authority.cert}`, authority.cert.replace(/\n/g, '\\n')]) {
    const failure = await failureAt(t, make(ec('P-256'), authority), { cert: dressed });
    assert.equal(failure.reason, TAKEN[0], failure.detail);
  }
});
