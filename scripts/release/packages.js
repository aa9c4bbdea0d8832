// Makes the packages of a release out of the checkout and the binaries of all platforms: the main package, which has no
// binary and names the others as optional dependencies, and one for each platform. The checkout stays as it is: there,
// nothing is optional or missing, and `npm pack` gives a package that works on this platform by itself.
'use strict';

const fs = require('node:fs');
const path = require('node:path');
const { root } = require('../setup/run');
const { notices } = require('./notices');
const { targets, binaryName, packageName } = require('./targets');

/**
 * `from`: the folder with the binaries. `to`: where the packages go, one folder each. `only`: some platforms, for tests;
 * a release has all. `repository`: `owner/name`, which a package with provenance must tell. `noticesOf`: the licences of
 * what is linked into the binary of a target. Returns the folders, in the order in which they are to be published: the
 * main package last, for it needs the others.
 */
function makePackages({ from, to, only, repository, noticesOf = notices }) {
  const chosen = targets.filter(({ platform }) => !only || only.includes(platform));
  const missing = chosen
    .map(({ platform }) => binaryName(platform))
    .filter((name) => !fs.existsSync(path.join(from, name)));
  if (missing.length > 0) throw new Error(`${from} lacks ${missing.join(', ')}`);
  fs.rmSync(to, { recursive: true, force: true });
  const manifest = JSON.parse(fs.readFileSync(path.join(root, 'package.json'), 'utf8'));
  const origin = repository && { type: 'git', url: `git+https://github.com/${repository}.git` };
  const folders = chosen.map((target) =>
    makePlatformPackage(manifest, target, { from, to, origin, noticesOf }),
  );
  return [...folders, makeMainPackage(manifest, chosen, { to, origin })];
}

function makePlatformPackage(manifest, { target, platform, os, cpu, libc }, { from, to, origin, noticesOf }) {
  const name = packageName(platform);
  const folder = path.join(to, name);
  fs.mkdirSync(folder, { recursive: true });
  const binary = binaryName(platform);
  fs.copyFileSync(path.join(from, binary), path.join(folder, binary));
  fs.copyFileSync(path.join(root, 'LICENSE'), path.join(folder, 'LICENSE'));
  fs.writeFileSync(path.join(folder, 'THIRD-PARTY.txt'), noticesOf(target));
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
    repository: origin,
    main: binary,
    files: [binary, 'THIRD-PARTY.txt'],
    engines: manifest.engines,
    os: [os],
    cpu: [cpu],
    libc: libc && [libc],
    // Addons cannot be loaded out of an archive.
    preferUnplugged: true,
  });
  return folder;
}

function makeMainPackage(manifest, chosen, { to, origin }) {
  const folder = path.join(to, manifest.name);
  fs.mkdirSync(folder, { recursive: true });
  const files = manifest.files.filter((name) => !name.includes('*'));
  for (const name of files) {
    fs.cpSync(path.join(root, name), path.join(folder, name), { recursive: true });
  }
  const own = { ...manifest };
  for (const name of ['scripts', 'devDependencies', 'overrides', 'napi']) delete own[name];
  writeManifest(folder, {
    ...own,
    repository: origin,
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
