// Finds and loads the native part of the package, a .node file; if it cannot, the error says all that was tried. It is loaded
// at the first call that needs it: requiring the package and constructing instances costs nothing, and a failure reaches that
// call's callback instead of ending the process.
'use strict';

const fs = require('fs');
const { createRequire } = require('module');
const path = require('path');
const { make_error } = require('./errors');

const OVERRIDE = 'REDIS_RESERVATION_NATIVE';

// The package's folder. A bundle that is an ES module has no __dirname, so the working directory stands in.
const HERE = typeof __dirname === 'string' ? path.join(__dirname, '..') : process.cwd();

// For each platform: the file beside index.js, where a build or a bundle puts it; then the platform's own package, if our
// package.json lists it. Every name is a literal in a require inside a try: bundlers follow the literal, and because of the
// try they skip a file that is absent.
const PLATFORMS = {
  'linux-x64-gnu'(attempts) {
    try {
      return require('../redis-reservation.linux-x64-gnu.node');
    } catch (error) {
      attempts.push(['redis-reservation.linux-x64-gnu.node', error]);
    }
    if (!may_load('redis-reservation-linux-x64-gnu')) return null;
    try {
      return require('redis-reservation-linux-x64-gnu');
    } catch (error) {
      attempts.push(['redis-reservation-linux-x64-gnu', error]);
    }
    return null;
  },
  'linux-x64-musl'(attempts) {
    try {
      return require('../redis-reservation.linux-x64-musl.node');
    } catch (error) {
      attempts.push(['redis-reservation.linux-x64-musl.node', error]);
    }
    if (!may_load('redis-reservation-linux-x64-musl')) return null;
    try {
      return require('redis-reservation-linux-x64-musl');
    } catch (error) {
      attempts.push(['redis-reservation-linux-x64-musl', error]);
    }
    return null;
  },
  'linux-arm64-gnu'(attempts) {
    try {
      return require('../redis-reservation.linux-arm64-gnu.node');
    } catch (error) {
      attempts.push(['redis-reservation.linux-arm64-gnu.node', error]);
    }
    if (!may_load('redis-reservation-linux-arm64-gnu')) return null;
    try {
      return require('redis-reservation-linux-arm64-gnu');
    } catch (error) {
      attempts.push(['redis-reservation-linux-arm64-gnu', error]);
    }
    return null;
  },
  'linux-arm64-musl'(attempts) {
    try {
      return require('../redis-reservation.linux-arm64-musl.node');
    } catch (error) {
      attempts.push(['redis-reservation.linux-arm64-musl.node', error]);
    }
    if (!may_load('redis-reservation-linux-arm64-musl')) return null;
    try {
      return require('redis-reservation-linux-arm64-musl');
    } catch (error) {
      attempts.push(['redis-reservation-linux-arm64-musl', error]);
    }
    return null;
  },
  'darwin-x64'(attempts) {
    try {
      return require('../redis-reservation.darwin-x64.node');
    } catch (error) {
      attempts.push(['redis-reservation.darwin-x64.node', error]);
    }
    if (!may_load('redis-reservation-darwin-x64')) return null;
    try {
      return require('redis-reservation-darwin-x64');
    } catch (error) {
      attempts.push(['redis-reservation-darwin-x64', error]);
    }
    return null;
  },
  'darwin-arm64'(attempts) {
    try {
      return require('../redis-reservation.darwin-arm64.node');
    } catch (error) {
      attempts.push(['redis-reservation.darwin-arm64.node', error]);
    }
    if (!may_load('redis-reservation-darwin-arm64')) return null;
    try {
      return require('redis-reservation-darwin-arm64');
    } catch (error) {
      attempts.push(['redis-reservation-darwin-arm64', error]);
    }
    return null;
  },
  'win32-x64-msvc'(attempts) {
    try {
      return require('../redis-reservation.win32-x64-msvc.node');
    } catch (error) {
      attempts.push(['redis-reservation.win32-x64-msvc.node', error]);
    }
    if (!may_load('redis-reservation-win32-x64-msvc')) return null;
    try {
      return require('redis-reservation-win32-x64-msvc');
    } catch (error) {
      attempts.push(['redis-reservation-win32-x64-msvc', error]);
    }
    return null;
  },
  'win32-arm64-msvc'(attempts) {
    try {
      return require('../redis-reservation.win32-arm64-msvc.node');
    } catch (error) {
      attempts.push(['redis-reservation.win32-arm64-msvc.node', error]);
    }
    if (!may_load('redis-reservation-win32-arm64-msvc')) return null;
    try {
      return require('redis-reservation-win32-arm64-msvc');
    } catch (error) {
      attempts.push(['redis-reservation-win32-arm64-msvc', error]);
    }
    return null;
  },
};

/**
 * The platform packages that our package.json lists: a release has them, a checkout has none. Any other package of such a name
 * may be anybody's. Null in a bundle, which has no package.json: whoever made it has chosen what is beside it.
 */
function own_packages() {
  try {
    // Not by `require`: rollup would follow it, and cannot read JSON without a plugin.
    const text = fs.readFileSync(path.join(HERE, 'package.json'), 'utf8');
    const { name, optionalDependencies } = JSON.parse(text);
    if (name === 'redis-reservation') return Object.keys(optionalDependencies || {});
  } catch (_) {
    // No package.json, or not a readable one.
  }
  return null;
}

function may_load(name) {
  const own = own_packages();
  return own === null || own.includes(name);
}

/** This platform as file and package names have it, such as 'linux-x64-gnu'. */
function platform_name() {
  const { platform, arch } = process;
  if (platform === 'linux') return `linux-${arch}-${is_musl() ? 'musl' : 'gnu'}`;
  if (platform === 'win32') return `win32-${arch}-msvc`;
  return `${platform}-${arch}`;
}

/** Whether this Node runs on musl. The first bytes of its executable name its dynamic loader, on every distribution. */
function is_musl() {
  try {
    const head = Buffer.alloc(4096);
    const file = fs.openSync(process.execPath, 'r');
    try {
      fs.readSync(file, head, 0, head.length, 0);
    } finally {
      fs.closeSync(file);
    }
    if (head.includes('/ld-musl-')) return true;
    if (head.includes('/ld-linux')) return false;
  } catch (_) {
    // Not readable. The report below knows too, but takes milliseconds.
  }
  try {
    return !process.report.getReport().header.glibcVersionRuntime;
  } catch (_) {
    return false;
  }
}

let loaded = null;

/**
 * The native exports. Throws an error that lists all that was tried. The error is not cached, since a shortage passes and an
 * installation gets fixed: the next call tries again.
 */
function load() {
  if (loaded !== null) return loaded;
  const attempts = trouble_with_files();
  const override = process.env[OVERRIDE];
  const platform = platform_name();
  let found = null;
  if (attempts.length > 0) {
    // Nothing is tried: without a free file descriptor, Node takes every package for absent, and some versions cache that.
  } else if (override) {
    const file = path.resolve(override);
    try {
      // Not by `require`: bundlers warn of a name that is not literal, and ES module bundles have no `require`.
      found = createRequire(file)(file);
    } catch (error) {
      attempts.push([file, error]);
    }
  } else if (Object.prototype.hasOwnProperty.call(PLATFORMS, platform)) {
    found = PLATFORMS[platform](attempts);
  }
  if (found != null && typeof found.ReserveResource !== 'function') {
    const name = override ? path.resolve(override) : platform;
    attempts.push([name, new Error('it loads, but is not the native part of this package')]);
    found = null;
  }
  if (found == null) throw failure(platform, attempts, override);
  loaded = found;
  return loaded;
}

function failure(platform, attempts, override) {
  const shortage = shortage_behind(attempts);
  if (shortage === undefined) {
    const message = failure_message(platform, attempts, remedy(platform, attempts, override));
    return make_error('ERR_NATIVE_LOAD', message, { cause: telling_cause(attempts) });
  }
  const message = failure_message(platform, attempts, `${shortage.remedy} The next call tries again.`);
  return make_error('ERR_RESOURCE_SHORTAGE', message, { cause: shortage.cause });
}

// How Node, glibc, musl and Windows report that a resource is exhausted, and the limit to raise.
const SHORTAGES = [
  [/\bENFILE\b|open files in system/i, 'The system may open no more files: raise its limit (`fs.file-max`).'],
  [
    /\bEMFILE\b|too many open files|no file descriptors available/i,
    'This process may open no more files: raise its limit (`ulimit -n`).',
  ],
  [
    // glibc uses the same words for static TLS (thread-local storage), which no limit enlarges.
    /\bENOMEM\b|cannot allocate memory(?! in static TLS)|out of memory|paging file is too small/i,
    'There is no memory left: raise the limit of this process (`ulimit -v`) or of its container.',
  ],
];

/** The shortage that made loading fail, as { cause, remedy }; undefined if something else did. */
function shortage_behind(attempts) {
  for (const [, cause] of attempts) {
    const text = String((cause && cause.message) || cause);
    const known = SHORTAGES.find(([words]) => words.test(text));
    if (known !== undefined) return { cause, remedy: known[1] };
  }
  return undefined;
}

/** Opens a file to see whether a descriptor is free. Returns the failed attempt, or none. */
function trouble_with_files() {
  try {
    fs.closeSync(fs.openSync(process.execPath, 'r'));
  } catch (error) {
    const attempts = [[process.execPath, error]];
    if (shortage_behind(attempts) !== undefined) return attempts;
  }
  return [];
}

/** The most telling error: that of a file that exists but does not load, else the first. */
function telling_cause(attempts) {
  const telling = attempts.find((attempt) => !is_absent(attempt)) || attempts[0];
  return telling && telling[1];
}

/** Whether the file or package itself is absent. One that exists may fail to find another file. */
function is_absent([name, error]) {
  return (
    error != null && error.code === 'MODULE_NOT_FOUND' && String(error.message).split('\n')[0].includes(name)
  );
}

function failure_message(platform, attempts, advice) {
  const lines = [
    `The native part of redis-reservation could not be loaded on ${platform}, Node ${process.version}.`,
  ];
  if (attempts.length > 0) lines.push('Tried:');
  for (const attempt of attempts) {
    const [name, error] = attempt;
    const place = name.endsWith('.node') ? path.resolve(HERE, name) : name;
    // The rest of Node's message lists the files that required this one.
    const reason = String((error && error.message) || error).split('\nRequire stack')[0];
    lines.push(`  ${place}: ${is_absent(attempt) ? 'not there' : reason}`);
  }
  return lines.concat(advice).join('\n');
}

function remedy(platform, attempts, override) {
  if (override) return `${OVERRIDE} names that file, so nothing else was tried. Correct or unset it.`;
  if (fs.existsSync(path.join(HERE, 'Cargo.toml'))) return 'This is a source checkout: run `npm run build`.';
  if (attempts.length === 0) {
    return `There is no build for this platform. There is one for: ${Object.keys(PLATFORMS).join(', ')}.`;
  }
  if (!attempts.every(is_absent)) {
    return 'The file is there, but this system refuses it, for the reason given above.';
  }
  const own = own_packages();
  if (own === null)
    return 'Put that file beside the bundle, or leave redis-reservation out of it (docs/runtimes.md).';
  if (own.includes(`redis-reservation-${platform}`)) {
    return (
      `Install the package redis-reservation-${platform}: it is an optional dependency, left out by ` +
      '`npm install --omit=optional`, by a node_modules copied from another platform, or by a lock file made on one.'
    );
  }
  const others = other_platforms();
  return (
    `This package was packed ${others.length > 0 ? `for ${others.join(', ')} alone` : 'without its native part'}. ` +
    `In its source checkout, on ${platform}: run \`npm run build\`, then \`npm pack\`, and install what that leaves.`
  );
}

/** The platforms whose binary is beside index.js. */
function other_platforms() {
  return Object.keys(PLATFORMS).filter((one) =>
    fs.existsSync(path.join(HERE, `redis-reservation.${one}.node`)),
  );
}

/** Whether the native part is loaded. */
function is_loaded() {
  return loaded !== null;
}

module.exports = { load, is_loaded, platform_name };
