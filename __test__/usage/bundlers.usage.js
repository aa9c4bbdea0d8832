// esbuild, webpack and rollup: with the package outside the bundle, and with its .node file beside the bundle as an asset. The
// options are those of docs/runtimes.md. Each bundle runs in an empty folder.
'use strict';

const assert = require('node:assert/strict');
const fs = require('node:fs');
const path = require('node:path');
const { after, before, test } = require('node:test');
const { platform_name } = require('../../lib/load');
const { startServer } = require('../support/server');
const { makeProject, makeFolder, use, holds } = require('./support');
const { provideTool, requireTool } = require('./tools');

let server;

before(async () => {
  server = await startServer(null);
});

after(() => server.stop());

const entries = {
  'index.cjs': `const ReserveResource = require('redis-reservation');${use}`,
  'index.mjs': `import ReserveResource from 'redis-reservation';${use}`,
};

const bundlers = {
  async esbuild({ entry, folder, out, external, format }) {
    // `require` for a bundle in ESM, for Node's modules and for the .node file.
    const js = "import { createRequire } from 'node:module'; const require = createRequire(import.meta.url);";
    const { warnings } = await requireTool('esbuild').build({
      entryPoints: [path.join(folder, entry)],
      outfile: out,
      bundle: true,
      platform: 'node',
      format,
      logLevel: 'silent',
      banner: format === 'esm' ? { js } : {},
      ...(external ? { external: ['redis-reservation'] } : { loader: { '.node': 'copy' } }),
    });
    return warnings.map(({ text }) => text);
  },

  async webpack({ entry, folder, out, external }) {
    const compiler = requireTool('webpack')({
      mode: 'production',
      target: 'node',
      context: folder,
      entry: `./${entry}`,
      output: { path: path.dirname(out), filename: path.basename(out), publicPath: '' },
      ...(external
        ? { externals: { 'redis-reservation': 'commonjs redis-reservation' } }
        : {
            node: { __dirname: false },
            module: {
              rules: [{ test: /\.node$/, loader: 'node-loader', options: { name: '[name].[ext]' } }],
            },
            // The missing files and packages of other platforms, and the file of REDIS_RESERVATION_NATIVE.
            ignoreWarnings: [{ module: /redis-reservation/, message: /Can't resolve/ }],
          }),
      resolveLoader: { modules: [provideTool('webpack')] },
    });
    const stats = await new Promise((resolve, reject) =>
      compiler.run((error, result) => (error ? reject(error) : resolve(result))),
    );
    const { errors, warnings } = stats.toJson({ all: false, errors: true, warnings: true });
    return [...errors, ...warnings].map(({ message }) => message);
  },

  async rollup({ entry, folder, out, external, format }) {
    const commonjs = requireTool('rollup', '@rollup/plugin-commonjs');
    const { nodeResolve } = requireTool('rollup', '@rollup/plugin-node-resolve');
    const warnings = [];
    const bundle = await requireTool('rollup').rollup({
      input: path.join(folder, entry),
      external: external ? ['redis-reservation'] : [],
      onwarn: ({ message }) => warnings.push(message),
      plugins: [
        native,
        nodeResolve({ exportConditions: ['node'], preferBuiltins: true }),
        commonjs({ requireReturnsDefault: 'auto' }),
      ],
    });
    await bundle.write({
      dir: path.dirname(out),
      entryFileNames: path.basename(out),
      assetFileNames: '[name][extname]',
      format: format === 'esm' ? 'es' : 'cjs',
    });
    return warnings;
  },
};

/** A rollup plugin that puts .node files beside the bundle. */
const native = {
  name: 'native',
  load(id) {
    if (!id.endsWith('.node')) return null;
    const file = this.emitFile({ type: 'asset', name: path.basename(id), source: fs.readFileSync(id) });
    return `
      import { createRequire } from 'node:module';
      import { fileURLToPath } from 'node:url';
      const file = fileURLToPath(import.meta.ROLLUP_FILE_URL_${file});
      export default createRequire(import.meta.url)(file);`;
  },
};

for (const [name, bundle] of Object.entries(bundlers)) {
  for (const entry of Object.keys(entries)) {
    for (const format of name === 'webpack' ? ['cjs'] : ['cjs', 'esm']) {
      for (const external of [true, false]) {
        test(`${name}, ${entry} to ${format}, ${external ? 'external' : 'as an asset'}`, async (t) => {
          await check(t, bundle, { entry, format, external });
        });
      }
    }
  }

  test(`${name}, the .node file of a platform package`, async (t) => {
    await check(t, bundle, { entry: 'index.cjs', format: 'cjs', external: false, released: true });
  });
}

async function check(t, bundle, { entry, format, external, released = false }) {
  const folder = makeProject(entries);
  if (released) usePlatformPackage(folder);
  const place = makeFolder();
  const file = format === 'esm' ? 'bundle.mjs' : 'bundle.cjs';
  const out = path.join(place, file);
  assert.deepEqual(await bundle({ entry, folder, out, external, format }), [], 'its complaints');
  if (external) {
    fs.renameSync(path.join(folder, 'node_modules'), path.join(place, 'node_modules'));
  } else {
    const files = fs.readdirSync(place);
    assert.equal(files.length, 2, files.join(' '));
  }
  // So that the bundle cannot find it.
  fs.rmSync(folder, { recursive: true, force: true });
  await holds(t, server, place, [file]);
}

/** Moves the binary to where a release has it: into the package of its platform, which the main package lists. */
function usePlatformPackage(folder) {
  const modules = path.join(folder, 'node_modules');
  const platform = platform_name();
  const file = `redis-reservation.${platform}.node`;
  const name = `redis-reservation-${platform}`;
  const main = path.join(modules, 'redis-reservation', 'package.json');
  const manifest = JSON.parse(fs.readFileSync(main, 'utf8'));
  fs.writeFileSync(main, JSON.stringify({ ...manifest, optionalDependencies: { [name]: manifest.version } }));
  const other = path.join(modules, name);
  fs.mkdirSync(other);
  fs.renameSync(path.join(modules, 'redis-reservation', file), path.join(other, file));
  fs.writeFileSync(path.join(other, 'package.json'), JSON.stringify({ main: file }));
}
