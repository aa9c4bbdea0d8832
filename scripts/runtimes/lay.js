// `node scripts/runtimes/lay.js FOLDER`: puts the packed package and the probe into one folder, to be run elsewhere: in a
// container, on another system, by a runtime that is not in the list.
'use strict';

const fs = require('node:fs');
const path = require('node:path');
const { packInto } = require('../setup/pack');

/** Copies the probe into `folder`. The caller puts the package there. */
function layProbe(folder) {
  const source = path.join(__dirname, '..', '..', '__test__', 'runtimes');
  const files = fs.readdirSync(source).filter((name) => !name.endsWith('.test.js'));
  for (const name of files) fs.copyFileSync(path.join(source, name), path.join(folder, name));
  // Otherwise Deno reads .js files as ES modules.
  fs.writeFileSync(path.join(folder, 'package.json'), '{ "private": true, "type": "commonjs" }\n');
}

module.exports = { layProbe };

if (require.main === module) {
  const folder = path.resolve(process.argv[2] || 'probe');
  packInto(folder);
  layProbe(folder);
  process.stdout.write(`${folder}\n`);
}
