// The `tls` option, in Node's names, as PEM text for the native side. Without `ca`, the certificates that Node trusts are
// used. Nothing is loaded before TLS is asked for.
'use strict';

const { wrong_type, wrong_value } = require('./values');
const { describe } = require('../errors');
const { member_of, refuse_unknown } = require('./names');

const TLS_OPTIONS = ['ca', 'cert', 'key', 'servername', 'rejectUnauthorized'];

const CONTENT = "Pass the content of a PEM file, such as require('fs').readFileSync(path), not its name.";

/** The `tls` option as the native side takes it; false for no TLS. No message shows the value: it may be a private key. */
function tls_from(value) {
  if (value === false) return false;
  // Without a prototype, so that the native side reads nothing from a polluted Object.prototype.
  const tls = Object.create(null);
  if (value === true) return Object.assign(tls, { ca: trusted_by_node(), reject_unauthorized: true });
  if (typeof value !== 'object' || Array.isArray(value) || ArrayBuffer.isView(value)) {
    const kind = typeof value === 'object' ? describe(value) : `of type ${typeof value}`;
    throw wrong_type(`tls must be true, false or an object of ${TLS_OPTIONS.join(', ')}; it is ${kind}.`);
  }
  refuse_unknown(value, TLS_OPTIONS, 'tls');
  const { ca, cert, key, servername, rejectUnauthorized } = given_of(value);
  tls.ca = ca == null ? undefined : certificates_from('tls.ca', ca);
  tls.reject_unauthorized = reject_unauthorized_from(rejectUnauthorized);
  if (cert != null) tls.cert = certificates_from('tls.cert', cert);
  if (key != null) tls.key = key_from('tls.key', key);
  if (servername != null) tls.servername = servername_from(servername);
  for (const [given, missing] of [
    ['cert', 'key'],
    ['key', 'cert'],
  ]) {
    if (tls[given] === undefined || tls[missing] !== undefined) continue;
    throw wrong_value(
      `tls.${missing} must be given with tls.${given}; it is missing. Pass both, or neither where the server asks for none.`,
    );
  }
  if (tls.ca === undefined) tls.ca = trusted_by_node();
  return tls;
}

function given_of(value) {
  const given = Object.create(null);
  for (const name of TLS_OPTIONS) given[name] = member_of(value, name);
  return given;
}

function certificates_from(field, value) {
  const pieces = pieces_of(field, value);
  if (pieces.every((piece) => piece.includes('-----BEGIN CERTIFICATE-----'))) return pieces.join('\n');
  throw wrong_value(`${field} must be certificates in PEM; there is none in what was passed. ${CONTENT}`);
}

function key_from(field, value) {
  const pieces = pieces_of(field, value);
  const text = pieces.join('\n');
  if (text.includes('-----BEGIN ENCRYPTED PRIVATE KEY-----') || text.includes('Proc-Type: 4,ENCRYPTED')) {
    throw wrong_value(
      `${field} must be a private key that is not encrypted; it is encrypted. Decrypt it first, with openssl pkey.`,
    );
  }
  if (pieces.every((piece) => /-----BEGIN (?:RSA |EC )?PRIVATE KEY-----/.test(piece))) return text;
  const other = /-----BEGIN ((?:OPENSSH |DSA )PRIVATE KEY|(?:RSA )?PUBLIC KEY)-----/.exec(text);
  if (other !== null) {
    throw wrong_value(
      `${field} must be a private key of RSA, EC or Ed25519 in PEM; it is of the kind ${other[1]}. Turn it into one with openssl pkey, or make another.`,
    );
  }
  throw wrong_value(`${field} must be a private key in PEM; there is none in what was passed. ${CONTENT}`);
}

/** PEM in any form that Node takes, a string, bytes, or an array of these, as an array of strings. */
function pieces_of(field, value) {
  const pieces = Array.isArray(value) ? value : [value];
  if (pieces.length === 0)
    throw wrong_value(`${field} must hold something; it is an empty array. ${CONTENT}`);
  return pieces.map((piece) => {
    if (typeof piece === 'string') return as_pem(piece);
    if (ArrayBuffer.isView(piece)) {
      return as_pem(Buffer.from(piece.buffer, piece.byteOffset, piece.byteLength).toString());
    }
    throw wrong_type(
      `${field} must be a string, a Buffer or an array of these; it is, or holds, ${
        piece === null ? 'null' : `a value of type ${typeof piece}`
      }. ${CONTENT}`,
    );
  });
}

/** PEM without byte-order marks, which Windows editors add, and with real newlines for the `\n` that environment variables hold. */
function as_pem(text) {
  return text.replace(/\uFEFF/g, '').replace(/\\r\\n|\\n/g, '\n');
}

function servername_from(value) {
  if (typeof value === 'string' && value !== '') return value;
  const message = `tls.servername must be a name that is not empty; it is ${describe(value)}. Leave it out for the host.`;
  throw typeof value === 'string' ? wrong_value(message) : wrong_type(message);
}

/** Only a boolean: the string "false", as an environment variable gives it, would count as true. */
function reject_unauthorized_from(value) {
  if (value == null) return true;
  if (typeof value === 'boolean') return value;
  throw wrong_type(
    `tls.rejectUnauthorized must be true or false; it is ${describe(value)}. Leave it out for true.`,
  );
}

// Made once a process: hundreds of certificates, which do not change.
let trusted = null;

/** The certificates that Node itself trusts, as one PEM text. */
function trusted_by_node() {
  if (trusted === null) {
    const certificates = node_certificates();
    if (certificates.length === 0) {
      throw wrong_value(
        `tls.ca must be given: this runtime brings no certificates of its own to trust. ${CONTENT}`,
      );
    }
    trusted = certificates.join('\n');
  }
  return trusted;
}

function node_certificates() {
  let tls;
  try {
    tls = require('tls');
  } catch (_) {
    // A Node that was built without crypto.
    return [];
  }
  if (typeof tls.getCACertificates === 'function') return tls.getCACertificates('default');
  return [...(tls.rootCertificates || []), ...extra_certificates()];
}

/** Before Node 22.15 there is no API for the certificates of this file, so it is read again. */
function extra_certificates() {
  const { NODE_EXTRA_CA_CERTS } = process.env;
  if (!NODE_EXTRA_CA_CERTS) return [];
  try {
    return [require('fs').readFileSync(NODE_EXTRA_CA_CERTS, 'utf8')];
  } catch (_) {
    // Node warned of it at start-up, and runs without it.
    return [];
  }
}

/** Whether a text is that of trusted_by_node(), so that it need not be compared or written out. */
function is_trusted_by_node(text) {
  return trusted !== null && text === trusted;
}

module.exports = { TLS_OPTIONS, tls_from, is_trusted_by_node };
