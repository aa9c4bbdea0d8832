// The licences of the crates that are linked into the binary: their texts have to come along with it.
'use strict';

const { execFileSync } = require('node:child_process');
const fs = require('node:fs');
const path = require('node:path');
const { root } = require('../setup/run');

/** The crates that end up in a binary for this target: `{ name, version, license, authors, texts }`, by name. */
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
  return [...seen]
    .map((id) => describe(byId.get(id)))
    .sort((left, right) => (left.name < right.name ? -1 : 1));
}

function describe({ name, version, license, authors, manifest_path: manifest }) {
  return { name, version, license, authors, texts: textsIn(path.dirname(manifest), license || '') };
}

/** The texts in a crate's folder. Where there is a free choice, that of MIT, the shortest. */
function textsIn(folder, license) {
  const names = fs.readdirSync(folder).filter((name) => /^(licen[cs]e|copying|notice)/i.test(name));
  const isChoice = / OR |\//.test(license) && !license.includes(' AND ');
  const chosen = isChoice && names.filter((name) => /mit/i.test(name));
  const files = chosen && chosen.length > 0 ? chosen : names;
  return files
    .map((name) => path.join(folder, name))
    .filter((file) => fs.statSync(file).isFile())
    .map((file) => fs.readFileSync(file, 'utf8').trim());
}

/** All of them as one text; a text that several crates share stands once. */
function notices(target) {
  const groups = new Map();
  for (const { name, version, license, authors, texts } of linkedCrates(target)) {
    const by = authors.length > 0 ? ` by ${authors.join(', ')}` : '';
    const text = texts.join('\n\n') || `(The crate${by} has no text of its licence, ${license}.)`;
    if (!groups.has(text)) groups.set(text, []);
    groups.get(text).push(`${name} ${version} (${license})`);
  }
  const parts = [...groups].map(([text, crates]) => `${crates.join('\n')}\n\n${text}\n`);
  return ['The binary contains these Rust crates, under these licences.\n', ...parts].join(
    `\n${'-'.repeat(78)}\n\n`,
  );
}

module.exports = { linkedCrates, notices };
