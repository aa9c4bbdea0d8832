// The certificates that Node trusts, with those of NODE_EXTRA_CA_CERTS: one text, made once, and only for TLS.
'use strict';

const assert = require('node:assert/strict');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { test } = require('node:test');
const tls = require('node:tls');
const { tls_from, is_trusted_by_node } = require('../../lib/arguments/tls');
const { startChild } = require('../support/child');
const { removeAtEnd } = require('../support/reaper');

const asked = `
  const ReserveResource = require('./index.js');
  const loaded = () => process.moduleLoadList.includes('NativeModule tls');
  const before = [loaded()];
  const reservation = new ReserveResource('me', 'e', 1, 0, 2, false, '', { db: 1, tls: false });
  reservation._init_redis();
  before.push(loaded());
  const { tls_from } = require('./lib/arguments/tls');
  const own = tls_from({ ca: '-----BEGIN CERTIFICATE-----' });
  before.push(loaded());
  const { ca } = tls_from(true);
  process.send({ before, ca, after: loaded(), own: own.ca });`;

test('all certificates that Node trusts, made once', () => {
  const { ca, reject_unauthorized } = tls_from(true);
  assert.equal(reject_unauthorized, true);
  for (const certificate of tls.rootCertificates) assert.ok(ca.includes(certificate));
  assert.equal(tls_from({}).ca, ca);
  assert.ok(is_trusted_by_node(ca));
  assert.ok(!is_trusted_by_node(undefined));
  assert.equal(tls_from(false), false);
});

test('the file of NODE_EXTRA_CA_CERTS is included, and nothing is read before TLS is used', async (t) => {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'trust-'));
  removeAtEnd(folder);
  const file = path.join(folder, 'extra.pem');
  // Node reads the file, too, so it must be a certificate. It is Node's last one, which then appears twice, or once if Node
  // removes duplicates.
  const extra = tls.rootCertificates[tls.rootCertificates.length - 1];
  fs.writeFileSync(file, extra);
  const counts = [];
  for (const NODE_EXTRA_CA_CERTS of [file, path.join(folder, 'none.pem'), '']) {
    const child = startChild(t, { code: asked }, { env: { NODE_EXTRA_CA_CERTS } });
    const { before, ca, after, own } = await child.message();
    assert.deepEqual(before, [false, false, false]);
    assert.equal(after, true);
    assert.equal(own, '-----BEGIN CERTIFICATE-----');
    counts.push(ca.split('-----BEGIN CERTIFICATE-----').length - 1);
    await child.exit();
  }
  assert.deepEqual(counts.slice(1), [tls.rootCertificates.length, tls.rootCertificates.length]);
  assert.ok(counts[0] >= counts[1]);
  if (typeof tls.getCACertificates !== 'function') assert.equal(counts[0], counts[1] + 1);
});

test('PEM from files and from environment variables is accepted', () => {
  const pem = (kind, end = '\n') => `-----BEGIN ${kind}-----${end}AAAA${end}-----END ${kind}-----${end}`;
  const [certificate, key] = [pem('CERTIFICATE'), pem('EC PRIVATE KEY')];
  for (const dressed of [
    (text) => `\ufeff${text}`,
    (text) => Buffer.from(`\ufeff${text}`),
    (text) => text.replace(/\n/g, '\\n'),
    (text) => text.replace(/\n/g, '\\r\\n'),
    (text) => [Buffer.from(text.replace(/\n/g, '\\n'))],
  ]) {
    const {
      ca,
      cert,
      key: secret,
    } = tls_from({
      ca: dressed(certificate),
      cert: dressed(certificate),
      key: dressed(key),
    });
    assert.deepEqual([ca, cert, secret], [certificate, certificate, key]);
  }
});
