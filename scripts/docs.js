// `npm run docs`: builds a site of README, docs/ and the types of index.d.ts in .cache/site/dist. `--check` follows all of its
// links; `--serve` serves it on a local port.
'use strict';

const fs = require('node:fs');
const path = require('node:path');
const { checkSite } = require('./docs/check');
const { layPages, layTypes, output } = require('./docs/pages');
const { serve } = require('./docs/serve');
const { root, run } = require('./setup/run');

const site = path.join(root, 'docs', 'site');

async function main(options) {
  const unknown = options.filter((option) => !['--check', '--serve'].includes(option));
  if (unknown.length > 0) throw new Error(`${unknown.join(', ')}: there are --check and --serve`);
  install();
  layPages();
  layTypes();
  tool('vitepress/bin/vitepress.js', ['build', '.']);
  tool('typedoc/bin/typedoc', []);
  const { pages, links, broken } = checkSite(output);
  for (const line of broken) process.stderr.write(`${line}\n`);
  process.stdout.write(
    `${pages} pages in ${path.relative(root, output)}, ${links} links, ${broken.length} broken\n`,
  );
  if (options.includes('--serve')) await serve(output);
  return options.includes('--check') && broken.length > 0 ? 1 : 0;
}

/** Installs the generators, which have a folder of their own so that the package's `npm ci` does not bring them. */
function install() {
  const lock = path.join(site, 'package-lock.json');
  const installed = path.join(site, 'node_modules', '.package-lock.json');
  const isFresh = fs.existsSync(installed) && fs.statSync(installed).mtimeMs >= fs.statSync(lock).mtimeMs;
  if (!isFresh && !run('npm', ['ci', '--ignore-scripts'], { cwd: site }))
    throw new Error('npm ci failed in docs/site');
}

function tool(script, words) {
  const file = path.join(site, 'node_modules', script);
  if (!run(process.execPath, [file, ...words], { cwd: site })) throw new Error(`${script} failed`);
}

main(process.argv.slice(2)).then(
  (code) => {
    process.exitCode = code;
  },
  (error) => {
    process.stderr.write(`${error.message}\n`);
    process.exitCode = 1;
  },
);
