// The site that `npm run docs` makes of the README and docs/. The pages lie in .cache/site, where scripts/docs/pages.js puts them.
import { createRequire } from 'node:module';

const require = createRequire(import.meta.url);
const { slugOf } = require('../../../scripts/links.js');
const { output, pages, repository } = require('../../../scripts/docs/pages.js');

const use = [
  { text: 'First steps', link: '/' },
  { text: 'API', link: '/docs/api' },
  { text: 'Where redis is', link: '/docs/connecting' },
  { text: 'Logging', link: '/docs/logging' },
  { text: 'Moving here', link: '/docs/moving' },
];
const trust = [
  { text: 'What it promises', link: '/docs/guarantees' },
  { text: 'How it is proved', link: '/docs/proof' },
  { text: 'Performance', link: '/docs/performance' },
  { text: 'Where it runs', link: '/docs/runtimes' },
  { text: 'Security', link: '/SECURITY' },
];
const work = [
  { text: 'How it is built', link: '/docs/architecture' },
  { text: 'Contributing', link: '/CONTRIBUTING' },
  { text: 'Releasing', link: '/docs/releasing' },
  { text: 'Benchmarks', link: '/benches/README' },
  { text: 'Changelog', link: '/CHANGELOG' },
];

export default {
  lang: 'en',
  title: 'redis-reservation',
  description:
    'Locks in redis that expire, renew themselves from a native thread, and tell you when they are lost',
  base: process.env.DOCS_BASE || '/',
  srcDir: pages,
  outDir: output,
  cacheDir: `${output}-cache`,
  head: [['link', { rel: 'icon', href: 'data:,' }]],
  // Anchors as on GitHub, where the same pages are read.
  markdown: { anchor: { slugify: slugOf }, toc: { slugify: slugOf } },
  vite: { build: { chunkSizeWarningLimit: 2000 }, logLevel: 'warn' },
  themeConfig: {
    search: { provider: 'local' },
    outline: [2, 3],
    nav: [
      { text: 'API', link: '/docs/api' },
      { text: 'Guarantees', link: '/docs/guarantees' },
      { text: 'Types', link: '/types/index.html', target: '_self' },
    ],
    sidebar: [
      { text: 'Use it', items: [...use, { text: 'Types', link: '/types/index.html', target: '_self' }] },
      { text: 'Trust it', items: trust },
      { text: 'Work on it', items: work },
    ],
    socialLinks: [{ icon: 'github', link: repository }],
  },
};
