// A redis-server with TLS only, with a certificate and client certificates as the test chooses.
'use strict';

const { startNode } = require('./node');

/**
 * `options.certificate`: what it shows, by its name in certificates.js: 'server', 'otherHost', 'expired',
 * 'foreignServer'. `options.clients`: whether clients must show one ('yes', 'no', 'optional'), signed by `options.ca`
 * ('ca' or 'foreignCa'). The rest is as in node.js: `password`, `acl`, `config`, `server`.
 */
function startTlsServer(t, { certificate, ca, clients, ...rest } = {}) {
  const given = Object.entries({ certificate, ca, clients }).filter(([, value]) => value !== undefined);
  return startNode(t, { ...rest, tls: Object.fromEntries(given) });
}

module.exports = { startTlsServer };
