// Checks that every link of the rendered site leads to an existing file, and to an existing anchor in it.
'use strict';

const fs = require('node:fs');
const path = require('node:path');

/** The broken links of the site in `folder`, a line each, and how many links and pages were checked. */
function checkSite(folder) {
  const files = fs.readdirSync(folder, { recursive: true }).filter((file) => file.endsWith('.html'));
  const pages = new Map(files.map((file) => [file, fs.readFileSync(path.join(folder, file), 'utf8')]));
  const ids = new Map(Array.from(pages, ([file, text]) => [file, idsOf(text)]));
  const broken = new Set();
  let links = 0;
  for (const [file, text] of pages) {
    for (const target of targetsOf(text)) {
      links += 1;
      const reason = problem(target, file);
      if (reason) broken.add(`${file}: ${target}: ${reason}`);
    }
  }
  return { pages: pages.size, links, broken: [...broken] };

  function problem(target, file) {
    const [address, anchor] = target.replace(/\?.*?(?=#|$)/, '').split('#');
    const to = address.startsWith('/')
      ? address.slice(1)
      : path.posix.join(path.posix.dirname(file), address);
    const found = address === '' ? file : fileOf(folder, to);
    if (found === null) return 'there is no such file';
    if (!anchor || !ids.has(found)) return null;
    return ids.get(found).has(decodeURIComponent(anchor)) ? null : 'there is no such place in it';
  }
}

/** The file that a server shows for an address, or null. */
function fileOf(folder, address) {
  const plain = decodeURIComponent(address);
  const tries = [plain, `${plain}.html`, path.posix.join(plain, 'index.html')];
  const isFile = (file) => fs.statSync(path.join(folder, file), { throwIfNoEntry: false })?.isFile();
  return tries.map((file) => path.posix.normalize(file)).find(isFile) ?? null;
}

function targetsOf(text) {
  const found = Array.from(text.matchAll(/\s(?:href|src)="([^"]*)"/g), ([, target]) =>
    target.replace(/&amp;/g, '&'),
  );
  return found.filter((target) => !/^(?:[a-z]+:|\/\/)/i.test(target));
}

function idsOf(text) {
  return new Set(Array.from(text.matchAll(/\s(?:id|name)="([^"]+)"/g), ([, id]) => id));
}

module.exports = { checkSite };
