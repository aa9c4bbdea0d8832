// A package registry on this machine for one test: it serves only the packages of a release. So a test sees which of them a
// package manager chooses by os, cpu and libc.
'use strict';

const { execFileSync } = require('node:child_process');
const crypto = require('node:crypto');
const { once } = require('node:events');
const fs = require('node:fs');
const http = require('node:http');
const path = require('node:path');

/** Serves the packages in these folders until the test ends: `{ url, asked }`, `asked` being the requested paths. */
async function startRegistry(t, folders, place) {
  const packages = new Map(folders.map((folder) => pack(folder, place)).map((one) => [one.name, one]));
  const asked = [];
  const server = http.createServer((request, response) => {
    const [, name, file] =
      decodeURIComponent(request.url.split('?')[0]).match(/^\/([^/]+)(?:\/-\/(.*))?$/) || [];
    asked.push(request.url);
    const found = packages.get(name);
    if (!found) {
      response.writeHead(404, { 'content-type': 'application/json' });
      response.end('{"error":"not found"}');
    } else if (file) {
      response.writeHead(200, { 'content-type': 'application/octet-stream' });
      response.end(found.tarball);
    } else {
      response.writeHead(200, { 'content-type': 'application/json' });
      response.end(JSON.stringify(document(found, url)));
    }
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const url = `http://127.0.0.1:${server.address().port}`;
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return { url, asked };
}

function pack(folder, place) {
  const options = { cwd: folder, encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] };
  const [{ filename }] = JSON.parse(
    execFileSync('npm', ['pack', '--json', '--pack-destination', place], options),
  );
  const manifest = JSON.parse(fs.readFileSync(path.join(folder, 'package.json'), 'utf8'));
  return { name: manifest.name, manifest, tarball: fs.readFileSync(path.join(place, filename)) };
}

/** A registry's description of a package: all versions, here one. */
function document({ name, manifest, tarball }, url) {
  const { version } = manifest;
  const hash = (algorithm, encoding) => crypto.createHash(algorithm).update(tarball).digest(encoding);
  const dist = {
    tarball: `${url}/${name}/-/${name}-${version}.tgz`,
    shasum: hash('sha1', 'hex'),
    integrity: `sha512-${hash('sha512', 'base64')}`,
  };
  return {
    name,
    'dist-tags': { latest: version },
    versions: { [version]: { ...manifest, _id: `${name}@${version}`, dist } },
    // Long ago, since some managers hold back new versions.
    time: { modified: '2024-01-01T00:00:00.000Z', [version]: '2024-01-01T00:00:00.000Z' },
  };
}

module.exports = { startRegistry };
