// TypeScript in every common configuration: it compiles without errors, and the result runs.
'use strict';

const assert = require('node:assert/strict');
const fs = require('node:fs');
const path = require('node:path');
const { after, before, test } = require('node:test');
const ts = require('typescript');
const { startServer } = require('../support/server');
const { root } = require('../support/child');
const { makeProject, holds } = require('./support');

let server;

/** The parsed types of TypeScript and of Node. */
const shared = new Map();

before(async () => {
  server = await startServer(null);
});

after(() => server.stop());

const body = `
const log = (line: string): void => void line;
class Worker extends ReserveResource {
  constructor(name: string) {
    super(name, process.env.REDIS_HOST, process.env.REDIS_PORT, 0, 10, log, '', { connect_timeout: 1000 });
  }
}
async function main(): Promise<void> {
  const worker = new Worker('usage');
  const had: boolean = await worker.lock('usage');
  const held: boolean = had && worker.held;
  const signal: AbortSignal | undefined = worker.signal;
  if (signal === undefined || signal.aborted) throw new Error('no signal');
  const failure: unknown = await new Worker('other').wait_until_lock('usage', { timeout: 10 }).catch((error) => error);
  if (!(failure instanceof ReserveResource.ReservationTimeoutError)) throw failure;
  const code: 'ERR_RESERVATION_TIMEOUT' = failure.code;
  const freed: number = await worker.release();
  if (code) console.log(\`\${held ? 'held' : 'not held'}, freed \${freed}\`);
}
void main();
`;

const byRequire = `import ReserveResource = require('redis-reservation');${body}`;
const byDefault = `import ReserveResource from 'redis-reservation';${body}`;
const byName = `import { ReserveResource } from 'redis-reservation';${body}`;

const cjs = { module: 'commonjs', moduleResolution: 'node10' };
const node16 = { module: 'node16', moduleResolution: 'node16' };
const bundler = { module: 'esnext', moduleResolution: 'bundler' };

/** [title, source, file name, compiler options, manifest] */
const projects = [
  ['import = require', byRequire, 'index.ts', cjs],
  ['import = require, node16', byRequire, 'index.cts', node16],
  ['import = require, node16, ESM', byRequire, 'index.mts', node16],
  ['default import, without esModuleInterop', byDefault, 'index.ts', { ...cjs, esModuleInterop: false }],
  ['default import, with esModuleInterop', byDefault, 'index.ts', { ...cjs, esModuleInterop: true }],
  ['default import, node16, CommonJS', byDefault, 'index.cts', node16],
  ['default import, node16, ESM', byDefault, 'index.mts', node16],
  ['default import, bundler', byDefault, 'index.ts', bundler, { type: 'module' }],
  ['import by name', byName, 'index.ts', cjs],
  ['import by name, node16, ESM', byName, 'index.mts', node16],
  ['import by name, bundler', byName, 'index.ts', bundler, { type: 'module' }],
];

for (const [name, text, file, options, manifest] of projects) {
  test(name, async (t) => {
    const folder = makeProject({ [file]: text }, { manifest });
    await compile(folder, file, options);
    await holds(t, server, folder, [file.replace(/ts$/, 'js')]);
  });
}

test('a wrong call does not compile', async () => {
  const text = `${byDefault}\nnew Worker('w').lock(undefined);\n`;
  await assert.rejects(compile(makeProject({ 'index.ts': text }), 'index.ts', cjs), /not assignable/);
});

/** Compiles as tsc does, in this process, so that the many files of TypeScript's and Node's types are read once. */
async function compile(folder, file, options) {
  fs.mkdirSync(path.join(folder, 'node_modules', '@types'));
  for (const name of ['@types/node', 'undici-types']) {
    fs.symlinkSync(path.join(root, 'node_modules', name), path.join(folder, 'node_modules', name));
  }
  const settings = {
    target: 'es2022',
    lib: ['es2022'],
    strict: true,
    noUncheckedIndexedAccess: true,
    exactOptionalPropertyTypes: true,
    // `npm run types` checks those of the package.
    skipLibCheck: true,
    types: ['node'],
    ...options,
  };
  const { options: compilerOptions, errors } = ts.convertCompilerOptionsFromJson(settings, folder);
  const host = ts.createCompilerHost(compilerOptions);
  const read = host.getSourceFile;
  host.getCurrentDirectory = () => folder;
  host.getSourceFile = (name, how, ...rest) => {
    if (!name.includes('/typescript/lib/') && !name.includes('/@types/node/'))
      return read(name, how, ...rest);
    // The compiler treats files by their module format, so different formats cannot share them.
    const key = `${name} ${how.impliedNodeFormat} ${how.languageVersion}`;
    if (!shared.has(key)) shared.set(key, read(name, how, ...rest));
    return shared.get(key);
  };
  const program = ts.createProgram([path.join(folder, file)], compilerOptions, host);
  const found = [...errors, ...ts.getPreEmitDiagnostics(program), ...program.emit().diagnostics];
  if (found.length > 0) throw new Error(ts.formatDiagnostics(found, host));
}
