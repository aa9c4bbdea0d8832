// Checks that a binary can be published: small enough, loadable on the oldest supported systems, and an addon at all.
'use strict';

const fs = require('node:fs');
const { readElf } = require('./elf');

/** The newest glibc that a published binary may need: that of CentOS 7. */
const FLOOR = '2.17';
/** The largest size of a published binary. More than half is TLS and the cluster engine: without them it is 1.6 MB. */
const LIMIT = 3.5 * 1024 * 1024; // bytes

/** Libraries that every system with Node has. */
const LIBRARIES =
  /^(libc|libm|libdl|libpthread|librt|libutil|ld-linux[\w-]*|libgcc_s|libc\.musl-[\w-]+|ld-musl-[\w-]+)\.so(\.\d+)?$/;

/**
 * `{ size, glibc, complaints }` of a .node file. `glibc`: the newest version that it needs, or null if it needs none (musl,
 * macOS, Windows). `floor`: the newest version that it may need.
 */
function checkBinary(path, { floor = FLOOR, limit = LIMIT } = {}) {
  const file = fs.readFileSync(path);
  const complaints = [];
  if (file.length > limit) complaints.push(`it has ${file.length} bytes, more than ${limit}`);
  const elf = readElf(file);
  if (!elf) return { size: file.length, glibc: null, complaints };
  const strange = elf.needed.filter((name) => !LIBRARIES.test(name));
  if (strange.length > 0) complaints.push(`it needs ${strange.join(', ')}`);
  if (!elf.exports.includes('napi_register_module_v1')) complaints.push('it is no Node-API addon');
  const needs = elf.versions
    .filter(({ version, weak }) => /^GLIBC_\d/.test(version) && !weak)
    .map(({ version }) => version.slice('GLIBC_'.length));
  const glibc = needs.reduce((newest, version) => (isNewer(version, newest) ? version : newest), '0');
  if (isNewer(glibc, floor)) complaints.push(`it needs glibc ${glibc}, newer than ${floor}`);
  return { size: file.length, glibc: glibc === '0' ? null : glibc, complaints };
}

/** Whether one version (`2.34`) is newer than another. */
function isNewer(version, other) {
  const [left, right] = [version, other].map((text) => text.split('.').map(Number));
  for (let index = 0; index < Math.max(left.length, right.length); index += 1) {
    const difference = (left[index] || 0) - (right[index] || 0);
    if (difference !== 0) return difference > 0;
  }
  return false;
}

module.exports = { checkBinary, FLOOR, LIMIT };
