// `npm run links`: checks that every relative link of the documents leads to an existing file, heading or test. A link to a
// test is written `[lock.test.js: "of many simultaneous locks, exactly one succeeds"](../__test__/lock.test.js)`.
'use strict';

const fs = require('node:fs');
const path = require('node:path');
const { root } = require('./setup/run');

const pages = ['README.md', 'CONTRIBUTING.md', 'CHANGELOG.md', 'SECURITY.md', 'benches/README.md'];

/** All documents, by their paths in the repository. */
function documents(folder = root) {
  const below = fs.readdirSync(path.join(folder, 'docs'), { recursive: true });
  const own = below.filter((file) => file.endsWith('.md') && !/^site\b|node_modules/.test(file));
  return [
    ...pages.filter((file) => fs.existsSync(path.join(folder, file))),
    ...own.map((file) => `docs/${file}`),
  ];
}

/** The broken links of one document, a line each. */
function brokenLinks(file, folder = root) {
  const text = fs.readFileSync(path.join(folder, file), 'utf8');
  return linksOf(text).flatMap(({ label, target, line }) => {
    const reason = problem({ label, target }, file, folder);
    return reason ? [`${file}:${line}: [${label}](${target}): ${reason}`] : [];
  });
}

/** The links outside of code: `[label](target)`, `![label](target)`, `[label]: target`, and those of HTML. */
function linksOf(text) {
  // Code is blanked, not cut, so that line numbers stay the same.
  const blank = (code) => code.replace(/[^\n]/g, ' ');
  const prose = text.replace(/^( *)(```+)[^]*?^\1\2.*$/gm, blank);
  const masked = prose.replace(/(`+)(?!`)(?:(?!\n\n)[^])*?[^`]\1(?!`)/g, blank);
  const found = [];
  const add = (index, label, target) =>
    found.push({ label: label.replace(/\s+/g, ' '), target, line: text.slice(0, index).split('\n').length });
  // Labels may contain code, so they are read from the prose with code; the position is looked up in the blanked text.
  for (const { index, 0: whole, 1: label, 2: target } of prose.matchAll(
    /\[((?:[^[\]]|\[[^[\]]*\])*)\]\(\s*<?([^)\s>]+)>?(?:\s+"[^"]*")?\s*\)/g,
  )) {
    const isCode = masked.slice(index + whole.length - 1, index + whole.length) !== ')';
    if (!isCode) add(index, label, target);
  }
  for (const { index, 1: label, 2: target } of masked.matchAll(/^\[([^\]]+)\]:\s+(\S+)/gm)) {
    add(index, label, target);
  }
  for (const { index, 1: target } of masked.matchAll(/\b(?:href|src|srcset)="([^"]+)"/g))
    add(index, '', target);
  return found;
}

function problem({ label, target }, file, folder) {
  if (/^(?:https?|mailto):/.test(target)) return null;
  const [address, anchor] = target.split('#');
  const full = address
    ? path.resolve(folder, path.dirname(file), decodeURIComponent(address))
    : path.join(folder, file);
  if (path.relative(folder, full).startsWith('..')) return 'leads out of the repository';
  if (!existsExactly(full)) return 'there is no such file';
  if (anchor !== undefined) {
    if (!full.endsWith('.md')) return 'an anchor into what is no document';
    if (!anchorsOf(fs.readFileSync(full, 'utf8')).includes(decodeURIComponent(anchor)))
      return 'there is no such heading';
  }
  const named = /^([\w./-]+\.(?:js|rs)): "(.*)"$/.exec(label);
  if (!named)
    return /\.test\.js/.test(target) && /"/.test(label) ? 'a test is named as `file.test.js: "title"`' : null;
  const [, name, title] = named;
  if (!full.split(path.sep).join('/').endsWith(`/${name}`)) return `leads to another file than ${name}`;
  return hasTest(fs.readFileSync(full, 'utf8'), title) ? null : 'there is no such test in that file';
}

/** Whether a path exists with this case, also on a file system that ignores case. */
function existsExactly(full) {
  if (!fs.existsSync(full)) return false;
  const name = path.basename(full);
  return fs.readdirSync(path.dirname(full)).includes(name);
}

/** The anchor that GitHub makes of a heading's text. */
function slugOf(heading) {
  return heading
    .trim()
    .toLowerCase()
    .replace(/[^\p{L}\p{N}\p{M}_\- ]/gu, '')
    .replace(/ /g, '-');
}

/** The anchors that GitHub gives the headings of a document. */
function anchorsOf(text) {
  const seen = new Map();
  const prose = text.replace(/^( *)(```+)[^]*?^\1\2.*$/gm, '');
  return Array.from(prose.matchAll(/^#{1,6} +(.*?)\s*$/gm), ([, heading]) => {
    const slug = slugOf(heading.replace(/\[([^\]]*)\]\([^)]*\)/g, '$1'));
    const count = seen.get(slug) || 0;
    seen.set(slug, count + 1);
    return count ? `${slug}-${count}` : slug;
  });
}

/** Whether a test file has a test of that title. A link writes `…` for a `${}` in the title, or a text that the file has. */
function hasTest(source, title) {
  return titlesOf(source).some((written) => {
    if (written === title) return true;
    const parts = written.split(/\$\{[^}]*\}/);
    if (parts.length === 1) return false;
    const pattern = parts.map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')).join('(.*)');
    const filled = new RegExp(`^${pattern}$`).exec(title);
    return filled !== null && filled.slice(1).every((part) => part === '…' || source.includes(part));
  });
}

function titlesOf(source) {
  const functions = source.matchAll(
    /#\[(?:tokio::)?test\b[^\]]*\]\s*(?:#\[[^\]]*\]\s*)*(?:async )?fn (\w+)/g,
  ); // of Rust
  const calls = /\b(?:test|describe|it)(?:\.\w+)?\(\s*(['"`])((?:\\[^]|(?!\1)[^\\])*)\1/g;
  const titles = Array.from(source.matchAll(calls), ([, , title]) => title.replace(/\\(.)/g, '$1'));
  return [...titles, ...Array.from(functions, ([, name]) => name)];
}

function main() {
  const files = documents();
  const broken = files.flatMap((file) => brokenLinks(file));
  for (const line of broken) process.stderr.write(`${line}\n`);
  process.stdout.write(`${files.length} documents, ${broken.length} broken links\n`);
  return broken.length > 0 ? 1 : 0;
}

module.exports = { documents, brokenLinks, linksOf, slugOf, anchorsOf, hasTest };

if (require.main === module) process.exitCode = main();
