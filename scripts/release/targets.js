// The platforms of a release: by Rust's names (package.json, "napi"), and the names that npm, the loader and the build have
// for them.
'use strict';

const { napi } = require('../../package.json');

/** `{ target, platform, os, cpu, libc }`: `platform` is the name in files and packages, `libc` npm's. */
const targets = napi.targets.map((target) => {
  const [machine, , system, library] = target.split('-');
  const cpu = { x86_64: 'x64', aarch64: 'arm64' }[machine];
  const os = { linux: 'linux', darwin: 'darwin', windows: 'win32' }[system];
  const suffix = library ? `-${library}` : '';
  return {
    target,
    platform: `${os}-${cpu}${suffix}`,
    os,
    cpu,
    libc: { gnu: 'glibc', musl: 'musl' }[library],
  };
});

const binaryName = (platform) => `${napi.binaryName}.${platform}.node`;
const packageName = (platform) => `${napi.binaryName}-${platform}`;

module.exports = { targets, binaryName, packageName };
