// `npm run notices`: writes THIRD-PARTY.txt, the licences of all crates that are linked into the binary. They must be shipped
// with it. A test checks that the file is up to date.
'use strict';

const { execFileSync } = require('node:child_process');
const fs = require('node:fs');
const path = require('node:path');
const { root } = require('../setup/run');
const { targets } = require('./targets');

const NOTICES = 'THIRD-PARTY.txt';
const rule = '-'.repeat(78);

/** The crates in a binary for this target: `{ name, version, license, texts }`, in order. */
function linkedCrates(target) {
  const args = ['metadata', '--format-version=1', '--locked', '--filter-platform', target];
  const options = { cwd: root, encoding: 'utf8', maxBuffer: 1 << 27 };
  const { packages, resolve } = JSON.parse(execFileSync('cargo', args, options));
  const byId = new Map(packages.map((one) => [one.id, one]));
  const nodes = new Map(resolve.nodes.map((node) => [node.id, node]));
  const seen = new Set();
  const visit = (id) => {
    // Macros run at compile time and are not linked.
    const isMacro = byId
      .get(id)
      .targets.every(({ kind }) => kind.includes('proc-macro') || kind.includes('custom-build'));
    if (seen.has(id) || isMacro) return;
    seen.add(id);
    for (const { pkg, dep_kinds: kinds } of nodes.get(id).deps) {
      if (kinds.some(({ kind }) => kind === null)) visit(pkg);
    }
  };
  visit(resolve.root);
  seen.delete(resolve.root);
  return inOrder([...seen].map((id) => describe(byId.get(id))));
}

const titleOf = ({ name, version, license }) => `${name} ${version} (${license})`;

function inOrder(crates) {
  return crates.sort((left, right) => (titleOf(left) < titleOf(right) ? -1 : 1));
}

function describe({ name, version, license, authors, manifest_path: manifest }) {
  const folder = path.dirname(manifest);
  const texts = [...chosenTexts(folder, license || ''), ...textsBelow(folder)];
  if (texts.length === 0) texts.push(withoutText(license, authors));
  return { name, version, license, texts: [...new Set(texts)] };
}

const textOf = (file) => fs.readFileSync(file, 'utf8').replaceAll('\r\n', '\n').trim();

/** The licence files directly in a folder. */
function filesIn(folder) {
  return fs
    .readdirSync(folder, { withFileTypes: true })
    .filter((entry) => entry.isFile() && /^(licen[cs]e|copying|notice)[^/]*(?<!\.rs)$/i.test(entry.name))
    .map(({ name }) => path.join(folder, name))
    .sort();
}

/** The crate's own licence. If it may be chosen, MIT, the shortest. */
function chosenTexts(folder, license) {
  const files = filesIn(folder);
  const isChoice = / OR |\//.test(license) && !license.includes(' AND ');
  const chosen = isChoice ? files.filter((file) => /mit/i.test(path.basename(file))) : [];
  return (chosen.length > 0 ? chosen : files).map(textOf);
}

/** The licences of code that the crate includes from others: C sources, parts of other crates. */
function textsBelow(folder) {
  return fs
    .readdirSync(folder, { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .map(({ name }) => path.join(folder, name))
    .sort()
    .flatMap((inner) => [...filesIn(inner).map(textOf), ...textsBelow(inner)]);
}

/** A licence text for a crate that was published without one. */
function withoutText(license, authors) {
  if (license !== 'MIT') throw new Error(`a crate under ${license} by ${authors} has no text of its licence`);
  const own = fs.readFileSync(path.join(root, 'LICENSE'), 'utf8');
  const terms = own.slice(own.indexOf('Permission is hereby granted')).trim();
  return `MIT License\n\nCopyright (c) ${authors.join(', ') || 'its authors'}\n\n${terms}`;
}

/** The licences of all crates that are linked on any platform, as one text. Shared texts appear once. */
function notices(crates = allCrates()) {
  const groups = new Map();
  for (const one of crates) {
    const text = one.texts.join('\n\n');
    if (!groups.has(text)) groups.set(text, []);
    groups.get(text).push(titleOf(one));
  }
  const parts = [...groups].map(([text, titles]) => `${titles.join('\n')}\n\n${text}\n`);
  const heading =
    'The binary of redis-reservation contains these Rust crates, some of them on some platforms only, under these\n' +
    'licences.\n';
  return [heading, ...parts].join(`\n${rule}\n\n`);
}

function allCrates() {
  const all = targets.flatMap(({ target }) => linkedCrates(target));
  return inOrder([...new Map(all.map((one) => [titleOf(one), one])).values()]);
}

module.exports = { linkedCrates, notices, titleOf, NOTICES };

if (require.main === module) fs.writeFileSync(path.join(root, NOTICES), notices());
