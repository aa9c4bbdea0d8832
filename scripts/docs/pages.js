// The pages of the site: copies the README, docs/ and their pictures to .cache/site, and rewrites their links. Links to files
// that are no page (examples, tests, sources) lead to the repository.
'use strict';

const fs = require('node:fs');
const path = require('node:path');
const { documents } = require('../links');
const { root } = require('../setup/run');

const folder = path.join(root, '.cache', 'site');
const pages = path.join(folder, 'pages');
const output = path.join(folder, 'dist');
const repository = require('../../package.json').repository.url.replace(/^git\+|\.git$/g, '');

/** Writes all pages, anew. Returns their paths in the repository. */
function layPages() {
  fs.rmSync(folder, { recursive: true, force: true });
  fs.mkdirSync(folder, { recursive: true });
  // Compiled pages import the generator's packages, relative to where the pages are.
  fs.symlinkSync(
    path.join(root, 'docs', 'site', 'node_modules'),
    path.join(folder, 'node_modules'),
    'junction',
  );
  const files = documents();
  for (const file of files) {
    const text = fs.readFileSync(path.join(root, file), 'utf8');
    put(placeOf(file), translate(text, file, files));
  }
  return files;
}

/** The path of a document in the site. */
function placeOf(file) {
  return file === 'README.md' ? 'index.md' : file;
}

function put(file, content) {
  const full = path.join(pages, file);
  fs.mkdirSync(path.dirname(full), { recursive: true });
  fs.writeFileSync(full, content);
}

/** A document's text with its links rewritten for the site. Copies its pictures beside it. */
function translate(text, file, files) {
  return outsideOfFences(text, (prose) =>
    prose.replace(/`+[^`]+`+|(\]\()([^)\s]+)(\))/g, (whole, before, target, after) => {
      if (before === undefined) return whole; // a code span
      if (/^(?:[a-z]+:|#)/.test(target)) return whole;
      const [address, anchor] = target.split('#');
      const to = path.posix.join(path.posix.dirname(file), address);
      return `${before}${linkTo(to, file, files)}${anchor ? `#${anchor}` : ''}${after}`;
    }),
  );
}

function linkTo(to, file, files) {
  if (files.includes(to)) return relative(placeOf(to), placeOf(file));
  if (/\.(?:svg|png)$/.test(to)) {
    put(to, fs.readFileSync(path.join(root, to)));
    return relative(to, placeOf(file));
  }
  const kind = fs.statSync(path.join(root, to)).isDirectory() ? 'tree' : 'blob';
  return `${repository}/${kind}/HEAD/${to}`;
}

function relative(to, from) {
  const found = path.posix.relative(path.posix.dirname(from), to);
  return found.startsWith('.') ? found : `./${found}`;
}

/** Changes the text outside of code fences. */
function outsideOfFences(text, change) {
  const parts = text.split(/(^ *```[^]*?^ *```.*$)/m);
  return parts.map((part, index) => (index % 2 ? part : change(part))).join('');
}

/** The types as a module with named exports: of `export =`, TypeDoc would show everything under that name. */
function layTypes() {
  const text = fs.readFileSync(path.join(root, 'index.d.ts'), 'utf8');
  put(
    '../redis-reservation.d.ts',
    text
      .replace(/^export = .*;$/m, '')
      .replace(/^ +export \{ ReserveResource, ReserveResource as default \};$/m, '')
      .replace(/^declare (class|namespace)/gm, 'export declare $1'),
  );
}

module.exports = { layPages, layTypes, pages, output, folder, repository };
