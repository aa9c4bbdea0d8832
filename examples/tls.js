// TLS, with a private authority and, where the server requires one, a client certificate.
'use strict';

const fs = require('node:fs');
const ReserveResource = require('redis-reservation');

// REDIS_CA, REDIS_CERT and REDIS_KEY are paths of PEM files. The options take their contents.
const { REDIS_HOST, REDIS_PORT, REDIS_CA, REDIS_CERT, REDIS_KEY } = process.env;
const read = (path) => path && fs.readFileSync(path);

// Without `ca`, the certificates that Node trusts apply, and those of NODE_EXTRA_CA_CERTS.
const tls = { ca: read(REDIS_CA), cert: read(REDIS_CERT), key: read(REDIS_KEY) };

const reservation = new ReserveResource('worker-name', REDIS_HOST, REDIS_PORT, 10 * 1000, 30, false, '', {
  tls,
});

async function main() {
  if (!(await reservation.lock('nightly-report'))) {
    console.log('somebody else runs it');
    return;
  }
  console.log('the job runs');
  await reservation.release();
}

main().catch((err) => {
  // An untrusted server is ERR_REDIS_CONNECTION, and the message says what is wrong with its certificate.
  console.error(err.code, err.message);
  process.exitCode = 1;
});
