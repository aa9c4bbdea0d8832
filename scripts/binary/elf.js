// Reads an ELF file (a Linux library): the libraries and symbol versions that it needs, which decide on which systems it loads,
// and its exports. Only 64-bit little-endian files, since no others are built here.
'use strict';

const SECTION = { strings: 3, dynamic: 6, symbols: 11, versions: 0x6ffffffe };
const NEEDED = 1n;
const WEAK = 2; // a version that only weak symbols need: if it is absent, they are null

/** `{ machine, needed: [library], versions: [{ library, version, weak }], exports: [name] }`, or null if it is no ELF file. */
function readElf(file) {
  if (file.length < 64 || file.readUInt32BE(0) !== 0x7f454c46) return null;
  if (file[4] !== 2 || file[5] !== 1) throw new Error('only 64-bit little-endian ELF files are understood');
  const sections = sectionsOf(file);
  const find = (type) => sections.find((section) => section.type === type);
  const machine = { 62: 'x64', 183: 'arm64' }[file.readUInt16LE(18)] || 'another';
  return {
    machine,
    needed: neededOf(file, sections, find(SECTION.dynamic)),
    versions: versionsOf(file, sections, find(SECTION.versions)),
    exports: exportsOf(file, sections, find(SECTION.symbols)),
  };
}

function sectionsOf(file) {
  const start = Number(file.readBigUInt64LE(40));
  const size = file.readUInt16LE(58);
  return Array.from({ length: file.readUInt16LE(60) }, (_, index) => {
    const at = start + index * size;
    return {
      type: file.readUInt32LE(at + 4),
      offset: Number(file.readBigUInt64LE(at + 24)),
      size: Number(file.readBigUInt64LE(at + 32)),
      link: file.readUInt32LE(at + 40),
    };
  });
}

/** The text at `offset` of the string table that a section refers to. */
function text(file, sections, section, offset) {
  const start = sections[section.link].offset + offset;
  return file.toString('latin1', start, file.indexOf(0, start));
}

function neededOf(file, sections, dynamic) {
  const needed = [];
  for (let at = 0; dynamic && at < dynamic.size; at += 16) {
    if (file.readBigInt64LE(dynamic.offset + at) !== NEEDED) continue;
    needed.push(text(file, sections, dynamic, Number(file.readBigUInt64LE(dynamic.offset + at + 8))));
  }
  return needed;
}

function versionsOf(file, sections, section) {
  const versions = [];
  for (let at = section && section.offset, next = 1; section && next !== 0; at += next) {
    const library = text(file, sections, section, file.readUInt32LE(at + 4));
    const count = file.readUInt16LE(at + 2);
    for (let index = 0, entry = at + file.readUInt32LE(at + 8); index < count; index += 1) {
      const weak = (file.readUInt16LE(entry + 4) & WEAK) !== 0;
      versions.push({ library, version: text(file, sections, section, file.readUInt32LE(entry + 8)), weak });
      entry += file.readUInt32LE(entry + 12);
    }
    next = file.readUInt32LE(at + 12);
  }
  return versions;
}

function exportsOf(file, sections, symbols) {
  const names = [];
  for (let at = 0; symbols && at < symbols.size; at += 24) {
    const entry = symbols.offset + at;
    const isDefined = file.readUInt16LE(entry + 6) !== 0;
    if (isDefined) names.push(text(file, sections, symbols, file.readUInt32LE(entry)));
  }
  return names;
}

module.exports = { readElf };
