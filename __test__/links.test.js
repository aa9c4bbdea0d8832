// Every link of the documents has a target, every promise names a test, and the check finds broken links.
'use strict';

const assert = require('node:assert/strict');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { test } = require('node:test');
const { checkSite } = require('../scripts/docs/check');
const { anchorsOf, brokenLinks, documents, hasTest, linksOf } = require('../scripts/links');
const { root } = require('./support/child');

test('every link of every document leads to an existing file, heading or test', () => {
  const files = documents();
  for (const name of ['README.md', 'SECURITY.md', 'docs/api.md', 'docs/guarantees.md']) {
    assert.ok(files.includes(name), name);
  }
  assert.deepEqual(
    files.flatMap((file) => brokenLinks(file)),
    [],
  );
});

test('every promise names its tests', () => {
  const page = fs.readFileSync(path.join(root, 'docs/guarantees.md'), 'utf8');
  const isNamed = (text) => linksOf(text).some(({ label }) => /\.(?:js|rs): "/.test(label));
  const chapter = (title) => page.split(/^## /m).find((part) => part.startsWith(`${title}\n`));
  const promises = chapter('Promised')
    .split(/\n(?=\*\*)/)
    .slice(1);
  // The tests of a row are listed below its table, after the text of its first cell.
  const rows = ['Under which fault', 'Limits'].flatMap((title) => {
    const items = chapter(title)
      .match(/^- .*$/gm)
      .filter(isNamed);
    const firsts = chapter(title)
      .match(/^\|.*\|$/gm)
      .slice(2)
      .map((row) => row.split(' | ')[0].slice(2));
    return firsts.map((first) => ({ first, isHeld: items.some((item) => item.startsWith(`- ${first}: `)) }));
  });
  assert.ok(promises.length >= 9 && rows.length >= 40, `${promises.length}, ${rows.length}`);
  assert.deepEqual(
    promises.filter((text) => !isNamed(text)),
    [],
  );
  assert.deepEqual(
    rows.filter(({ isHeld }) => !isHeld),
    [],
  );
});

test('a link to a missing file, heading or test is reported with its line', (t) => {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'reservation-links-'));
  t.after(() => fs.rmSync(folder, { recursive: true, force: true }));
  fs.mkdirSync(path.join(folder, 'docs'));
  const tests = `test('one', () => {});\nfor (const x of ['x']) test(\`two \${x}\`, () => {});\n`;
  fs.writeFileSync(path.join(folder, 'a.test.js'), tests);
  fs.writeFileSync(
    path.join(folder, 'docs', 'page.md'),
    [
      '# A page: `code` & [link](page.md)',
      '[a](page.md) [b](#a-page-code--link) [c](https://example.com/x.md) `[d](none.md)`',
      '[a.test.js: "one"](../a.test.js) [a.test.js: "two x"](../a.test.js)',
      '```js\nread[name](file);\n```',
      '[e](none.md) ![f](none.svg) [g](#none) [h](page.md#none) [i](Page.md)',
      '[a.test.js: "none"](../a.test.js) [b.test.js: "one"](../a.test.js) [a "one"](../a.test.js)',
      '<img src="none.png">',
      '[j](../../outside.md) [k](../a.test.js#L1)',
      '[a label that',
      'goes on](none2.md)',
    ].join('\n'),
  );
  const told = brokenLinks('docs/page.md', folder).map((line) => line.replace(/^docs\/page\.md:/, ''));
  assert.deepEqual(
    told.map((line) => line.replace(/\[.*?\]\((.*?)\)/, '$1')).sort(),
    [
      '9: none.png: there is no such file',
      '10: ../../outside.md: leads out of the repository',
      '10: ../a.test.js#L1: an anchor into what is no document',
      '11: none2.md: there is no such file',
      '7: #none: there is no such heading',
      '7: Page.md: there is no such file',
      '7: none.md: there is no such file',
      '7: none.svg: there is no such file',
      '7: page.md#none: there is no such heading',
      '8: ../a.test.js: a test is named as `file.test.js: "title"`',
      '8: ../a.test.js: leads to another file than b.test.js',
      '8: ../a.test.js: there is no such test in that file',
    ].sort(),
  );
});

test('anchors are made as on GitHub', () => {
  const text = '# One\n## One\n### lock(resource, callback)\n## `held`, and more\n```\n# no heading\n```\n';
  assert.deepEqual(anchorsOf(text), ['one', 'one-1', 'lockresource-callback', 'held-and-more']);
});

test('each part of a title made by a template must be in the file', () => {
  const source = `for (const way of ['by hand']) test(\`lost \${way}: told\`, () => {});\n`;
  assert.ok(hasTest(source, 'lost by hand: told'));
  assert.ok(hasTest(source, 'lost …: told'));
  assert.ok(!hasTest(source, 'lost by foot: told'));
});

test('a Rust test is named by its function', () => {
  const source =
    '#[test]\nfn a_lock_is_had() {}\n\n#[tokio::test(start_paused = true)]\nasync fn later() {}\n\nfn helper() {}\n';
  assert.ok(hasTest(source, 'a_lock_is_had') && hasTest(source, 'later'));
  assert.ok(!hasTest(source, 'helper'));
});

test('the check of the site reports its broken links', (t) => {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'reservation-site-'));
  t.after(() => fs.rmSync(folder, { recursive: true, force: true }));
  fs.mkdirSync(path.join(folder, 'docs'));
  fs.writeFileSync(
    path.join(folder, 'index.html'),
    '<a href="/docs/a#here"></a> <a href="https://example.com"></a>',
  );
  fs.writeFileSync(
    path.join(folder, 'docs', 'a.html'),
    '<p id="here"></p> <a href="../index.html"> <a href="b.html"> <a href="#gone"> <img src="/c.svg">',
  );
  assert.deepEqual(checkSite(folder), {
    pages: 2,
    links: 5,
    broken: [
      'docs/a.html: b.html: there is no such file',
      'docs/a.html: #gone: there is no such place in it',
      'docs/a.html: /c.svg: there is no such file',
    ],
  });
});
