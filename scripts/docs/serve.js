// Serves a folder on a free local port, as a static host would, until it is interrupted.
'use strict';

const fs = require('node:fs');
const http = require('node:http');
const path = require('node:path');

const types = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript',
  '.css': 'text/css',
  '.svg': 'image/svg+xml',
  '.json': 'application/json',
  '.woff2': 'font/woff2',
};

function serve(folder, port = Number(process.env.PORT || 0)) {
  const server = http.createServer((request, response) => {
    const { pathname } = new URL(request.url, 'http://localhost');
    const wanted = path.join(folder, path.normalize(decodeURIComponent(pathname)));
    const found = [wanted, `${wanted}.html`, path.join(wanted, 'index.html')].find((file) =>
      fs.statSync(file, { throwIfNoEntry: false })?.isFile(),
    );
    const isInside = found && found.startsWith(folder + path.sep);
    const file = isInside ? found : path.join(folder, '404.html');
    const type = types[path.extname(file)] || 'application/octet-stream';
    response.writeHead(isInside ? 200 : 404, { 'content-type': type });
    fs.createReadStream(file).pipe(response);
  });
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, '127.0.0.1', () => {
      process.stdout.write(`http://127.0.0.1:${server.address().port}/ until Ctrl-C\n`);
    });
    process.once('SIGINT', () => server.close(resolve));
  });
}

module.exports = { serve };
