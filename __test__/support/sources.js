// The files of this project, by their paths from its root.
'use strict';

const fs = require('fs');
const path = require('path');

const root = path.join(__dirname, '..', '..');

/** Every file below a folder, in the order of their paths. */
function filesBelow(folder) {
  return fs
    .readdirSync(path.join(root, folder), { withFileTypes: true })
    .flatMap((entry) => {
      const file = `${folder}/${entry.name}`;
      return entry.isDirectory() ? filesBelow(file) : [file];
    })
    .sort();
}

/** The text of a file. */
function read(file) {
  return fs.readFileSync(path.join(root, file), 'utf8');
}

module.exports = { root, filesBelow, read };
