// The pages of the site: the README, docs/ and their pictures, copied to .cache/site with links that hold there. What is
// no page (examples, tests, sources) is linked to where it is read, in the repository.
'use strict';

const fs = require('node:fs');
const path = require('node:path');
const { documents } = require('../links');
const { root } = require('../setup/run');

const folder = path.join(root, '.cache', 'site');
const pages = path.join(folder, 'pages');
const output = path.join(folder, 'dist');
const repository = require('../../package.json').repository.url.replace(/^git\+|\.git$/g, '');

/** Lays all pages, anew; gives their paths in the repository. */
function layPages() {
  fs.rmSync(folder, { recursive: true, force: true });
  fs.mkdirSync(folder, { recursive: true });
  // What pages are compiled to asks for the generator's packages from where the pages lie.
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

/** Where a document lies in the site. */
function placeOf(file) {
  return file === 'README.md' ? 'index.md' : file;
}

function put(file, content) {
  const full = path.join(pages, file);
  fs.mkdirSync(path.dirname(full), { recursive: true });
  fs.writeFileSync(full, content);
}

/** The text of a document with its links as they are in the site. Its pictures are copied beside it. */
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

/** Changes what is in no fence. */
function outsideOfFences(text, change) {
  const parts = text.split(/(^ *```[^]*?^ *```.*$)/m);
  return parts.map((part, index) => (index % 2 ? part : change(part))).join('');
}

/** The types as a module that exports by name: `export =` would be the name of all that TypeDoc tells of them. */
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
