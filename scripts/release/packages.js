// Makes the packages of a release of the checkout and the binaries of all platforms: the main package, which has no binary and
// names the others as optional dependencies, and one package for each platform. The checkout is not changed: it has no
// optional dependencies, and its `npm pack` gives a package that works on this platform by itself.
'use strict';

const fs = require('node:fs');
const path = require('node:path');
const { root } = require('../setup/run');
const { NOTICES } = require('./notices');
const { targets, binaryName, packageName } = require('./targets');

/**
 * `from`: the folder with the binaries. `to`: where the packages go, one folder each. `only`: some platforms, for tests; a
 * release has all. `repository`: `owner/name`, which a package with provenance must state; package.json's if not given.
 * Returns the folders in the order of publication: the main package last, since it depends on the others.
 */
function makePackages({ from, to, only, repository }) {
  const chosen = targets.filter(({ platform }) => !only || only.includes(platform));
  const missing = chosen
    .map(({ platform }) => binaryName(platform))
    .filter((name) => !fs.existsSync(path.join(from, name)));
  if (missing.length > 0) throw new Error(`${from} lacks ${missing.join(', ')}`);
  fs.rmSync(to, { recursive: true, force: true });
  const manifest = JSON.parse(fs.readFileSync(path.join(root, 'package.json'), 'utf8'));
  if (repository) Object.assign(manifest, originOf(repository));
  const folders = chosen.map((target) => makePlatformPackage(manifest, target, { from, to }));
  return [...folders, makeMainPackage(manifest, chosen, to)];
}

function originOf(repository) {
  const page = `https://github.com/${repository}`;
  return {
    homepage: `${page}#readme`,
    repository: { type: 'git', url: `git+${page}.git` },
    bugs: { url: `${page}/issues` },
  };
}

function makePlatformPackage(manifest, { platform, os, cpu, libc }, { from, to }) {
  const name = packageName(platform);
  const folder = path.join(to, name);
  fs.mkdirSync(folder, { recursive: true });
  const binary = binaryName(platform);
  fs.copyFileSync(path.join(from, binary), path.join(folder, binary));
  for (const file of ['LICENSE', NOTICES]) fs.copyFileSync(path.join(root, file), path.join(folder, file));
  const description = `The native part of ${manifest.name} for ${platform}`;
  fs.writeFileSync(
    path.join(folder, 'README.md'),
    `# ${name}\n\n${description}. It is installed by that package; nothing else should depend on it.\n`,
  );
  writeManifest(folder, {
    name,
    version: manifest.version,
    description,
    license: manifest.license,
    homepage: manifest.homepage,
    repository: manifest.repository,
    bugs: manifest.bugs,
    main: binary,
    files: [binary, NOTICES],
    engines: manifest.engines,
    os: [os],
    cpu: [cpu],
    libc: libc && [libc],
    // An addon cannot be loaded from an archive.
    preferUnplugged: true,
  });
  return folder;
}

function makeMainPackage(manifest, chosen, to) {
  const folder = path.join(to, manifest.name);
  fs.mkdirSync(folder, { recursive: true });
  // Without the binary, and without the licences that belong to it.
  const files = manifest.files.filter((name) => !name.includes('*') && name !== NOTICES);
  for (const name of files) {
    fs.cpSync(path.join(root, name), path.join(folder, name), { recursive: true });
  }
  const own = { ...manifest };
  for (const name of ['scripts', 'devDependencies', 'overrides', 'napi']) delete own[name];
  writeManifest(folder, {
    ...own,
    files,
    optionalDependencies: Object.fromEntries(
      chosen.map(({ platform }) => [packageName(platform), manifest.version]),
    ),
  });
  return folder;
}

function writeManifest(folder, manifest) {
  fs.writeFileSync(path.join(folder, 'package.json'), `${JSON.stringify(manifest, null, 2)}\n`);
}

module.exports = { makePackages };

if (require.main === module) {
  const [from, to] = process.argv.slice(2);
  if (!to) throw new Error('node scripts/release/packages.js BINARIES DESTINATION');
  const repository = process.env.GITHUB_REPOSITORY;
  for (const folder of makePackages({ from, to, repository })) process.stdout.write(`${folder}\n`);
}
