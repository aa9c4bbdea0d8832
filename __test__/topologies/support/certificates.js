// Certificates for the TLS tests: authorities, and good and bad certificates that they sign. Each process makes new ones in a
// temporary folder, so git has no key and nothing expires.
'use strict';

const { spawnSync } = require('node:child_process');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { which } = require('../../../scripts/setup/run');
const { removeAtEnd } = require('../../support/reaper');

// By the `openssl` command, not an npm package: users make theirs with it, Node cannot sign certificates, and nearly every
// machine has it: on Debian, Alpine and Fedora ca-certificates depends on it, and macOS includes it. scripts/topologies.js
// reports if it is missing.
const howToGetOpenssl = 'The `openssl` command is needed to make certificates: sudo apt-get install openssl';

// A year in the past, for expired certificates. (With `openssl x509 -days -1` a certificate would end before it begins: that is
// malformed, not expired, and some TLS libraries distinguish the two.)
const past = ['-startdate', '20200101000000Z', '-enddate', '20210101000000Z'];

const everyNameOfThisHost = 'DNS:localhost,IP:127.0.0.1,IP:::1';

let made; // once a process

/**
 * `{ folder, ca, foreignCa, server, otherHost, expired, client, foreignClient, foreignServer }`; each but the folder is
 * `{ certFile, keyFile, cert, key }`: two paths, and what stands in these files (PEM).
 *
 * `server`: for localhost, 127.0.0.1 and ::1. `otherHost`: only for redis.example. `expired`: for this host, but expired.
 * `foreignServer` and `foreignClient`: as `server` and `client`, but signed by `foreignCa`.
 */
function certificates() {
  made ??= make();
  return made;
}

function hasOpenssl() {
  return which('openssl') !== null;
}

function make() {
  if (!hasOpenssl()) throw new Error(howToGetOpenssl);
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'reservation-certificates-'));
  removeAtEnd(folder);
  const ca = makeAuthority(folder, 'ca', 'Authority of the tests');
  const foreignCa = makeAuthority(folder, 'foreign-ca', 'Authority of somebody else');
  const sign = (authority, name, subject, settings) => signOne(folder, authority, name, subject, settings);
  return {
    folder,
    ca,
    foreignCa,
    server: sign(ca, 'server', 'localhost', { names: everyNameOfThisHost }),
    otherHost: sign(ca, 'other-host', 'redis.example', { names: 'DNS:redis.example' }),
    expired: sign(ca, 'expired', 'localhost', { names: everyNameOfThisHost, dates: past }),
    foreignServer: sign(foreignCa, 'foreign-server', 'localhost', { names: everyNameOfThisHost }),
    client: sign(ca, 'client', 'worker', { usage: 'clientAuth' }),
    foreignClient: sign(foreignCa, 'foreign-client', 'worker', { usage: 'clientAuth' }),
  };
}

// P-256 keys are made much faster than RSA keys.
const newKey = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'];

function makeAuthority(folder, name, subject) {
  const files = filesOf(folder, name);
  // Our own configuration, so that the machine's openssl.cnf has no effect.
  const configuration = writeLines(path.join(folder, `${name}.cnf`), [
    '[req]',
    'distinguished_name = subject',
    'prompt = no',
    'x509_extensions = extensions',
    '[subject]',
    `CN = ${subject}`,
    '[extensions]',
    'basicConstraints = critical, CA:TRUE',
    'keyUsage = critical, keyCertSign, cRLSign',
    'subjectKeyIdentifier = hash',
  ]);
  const out = ['-keyout', files.keyFile, '-out', files.certFile];
  openssl(['req', '-x509', '-sha256', ...newKey, '-days', '2', '-config', configuration, ...out]);
  return withContents(files);
}

/** By `openssl ca`, the only command that takes dates in every version and in LibreSSL. */
function signOne(folder, authority, name, subject, { names, usage = 'serverAuth, clientAuth', dates }) {
  const files = filesOf(folder, name);
  const request = path.join(folder, `${name}.csr`);
  const database = path.join(folder, `${name}.database`);
  writeLines(database, []);
  const configuration = writeLines(path.join(folder, `${name}.cnf`), [
    '[req]',
    'distinguished_name = subject',
    'prompt = no',
    '[subject]',
    `CN = ${subject}`,
    '[ca]',
    'default_ca = authority',
    '[authority]',
    `database = ${database}`,
    `new_certs_dir = ${folder}`,
    'rand_serial = yes',
    'default_md = sha256',
    'policy = policy',
    'x509_extensions = extensions',
    '[policy]',
    'commonName = supplied',
    '[extensions]',
    'basicConstraints = critical, CA:FALSE',
    'keyUsage = critical, digitalSignature',
    // A server also shows its certificate to its master, to its peers in a cluster and to its sentinels.
    `extendedKeyUsage = ${usage}`,
    'subjectKeyIdentifier = hash',
    'authorityKeyIdentifier = keyid',
    ...(names ? [`subjectAltName = ${names}`] : []),
  ]);
  openssl(['req', ...newKey, '-config', configuration, '-keyout', files.keyFile, '-out', request]);
  const by = ['-cert', authority.certFile, '-keyfile', authority.keyFile, '-config', configuration];
  const span = dates || ['-days', '1'];
  openssl(['ca', '-batch', '-notext', ...by, ...span, '-in', request, '-out', files.certFile]);
  return withContents(files);
}

function filesOf(folder, name) {
  return { certFile: path.join(folder, `${name}.pem`), keyFile: path.join(folder, `${name}.key`) };
}

function withContents({ certFile, keyFile }) {
  const read = (file) => fs.readFileSync(file, 'utf8');
  return { certFile, keyFile, cert: read(certFile), key: read(keyFile) };
}

function writeLines(file, lines) {
  fs.writeFileSync(file, lines.map((line) => `${line}\n`).join(''));
  return file;
}

function openssl(args) {
  const { status, stderr, error } = spawnSync('openssl', args, { encoding: 'utf8' });
  if (error) throw error;
  if (status !== 0) throw new Error(`openssl ${args.join(' ')} ended with ${status}:\n${stderr}`);
}

module.exports = { certificates, hasOpenssl, howToGetOpenssl };
