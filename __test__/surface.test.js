// Compares the public surface with the record in __test__/surface, so that nothing changes by accident. For an intended
// change, run `UPDATE_SURFACE=1 npm test -- surface`, commit the diff, and add a line to CHANGELOG.md.
'use strict';

const assert = require('node:assert/strict');
const fs = require('node:fs');
const path = require('node:path');
const { test } = require('node:test');
const ts = require('typescript');
const ReserveResource = require('../index.js');
const { make_error } = require('../lib/errors');
const manifest = require('../package.json');
const { filesBelow, read } = require('./support/sources');

const folder = path.join(__dirname, 'surface');

/** Compares with the file, or writes it with UPDATE_SURFACE. */
function compare(name, text) {
  const file = path.join(folder, name);
  if (process.env.UPDATE_SURFACE) fs.writeFileSync(file, text);
  const marked = fs.readFileSync(file, 'utf8');
  const hint = 'the public surface has changed; if that is meant: UPDATE_SURFACE=1 npm test -- surface';
  assert.deepEqual(text.split('\n'), marked.split('\n'), hint);
}

// What V8 gives every function.
const usual = ['arguments', 'caller', 'length', 'name', 'prototype'];

/** The attributes of each own member, in the order of their names. */
function membersOf(object) {
  const members = {};
  const keys = Reflect.ownKeys(object).filter(
    (key) => !(typeof object === 'function' && usual.includes(key)),
  );
  for (const key of keys.sort((left, right) => (String(left) < String(right) ? -1 : 1))) {
    const { value, get, set, writable, enumerable } = Object.getOwnPropertyDescriptor(object, key);
    const kind = get ? `getter${set ? ' and setter' : ''}` : describe(value);
    members[String(key)] = [kind, enumerable && 'enumerable', writable === false && 'read-only']
      .filter(Boolean)
      .join(', ');
  }
  return members;
}

function describe(value) {
  if (typeof value !== 'function') return typeof value;
  const parent = Object.getPrototypeOf(value);
  return parent === Function.prototype ? `function of ${value.length}` : `class, extends ${parent.name}`;
}

/** The names of an object's methods, own or inherited from a class of ours. */
function methodsOf(object) {
  const names = [];
  for (let one = object; one !== Object.prototype; one = Object.getPrototypeOf(one)) {
    names.push(...Object.getOwnPropertyNames(one).filter((name) => typeof one[name] === 'function'));
  }
  return names.filter((name) => name !== 'constructor').sort();
}

test('the exports of the module, and the members of its instances', () => {
  const instance = new ReserveResource('w', 'h', 1, 2, 3, null, 'p');
  const surface = {
    module: membersOf(ReserveResource),
    prototype: membersOf(ReserveResource.prototype),
    'prototype of the prototype': Object.getPrototypeOf(ReserveResource.prototype).constructor.name,
    'fields of an instance': Object.keys(instance),
    'methods of _redis': methodsOf(instance._init_redis()),
  };
  compare('module.json', `${JSON.stringify(surface, null, 2)}\n`);
});

test('each error code and its class', () => {
  const native = filesBelow('src').filter((name) => name.endsWith('.rs') && !name.startsWith('src/tests/'));
  const sources = ['lib/errors.js', ...native].map(read);
  // The codes of TLS are those of causes, named as in Node.
  const codes = new Set(sources.flatMap((text) => text.match(/(?<=['"\s])ERR_(?!SSL|TLS)[A-Z_]+/g) || []));
  const surface = Object.fromEntries([...codes].sort().map((code) => [code, make_error(code, '').name]));
  compare('errors.json', `${JSON.stringify(surface, null, 2)}\n`);
});

test('the promises of package.json', () => {
  const { main, types, exports: entries, engines, napi } = manifest;
  const surface = { main, types, exports: entries, engines, targets: napi.targets };
  compare('package.json', `${JSON.stringify(surface, null, 2)}\n`);
  assert.equal(manifest.dependencies, undefined, 'a runtime dependency');
  // `prepare` is only for sources: a checkout, and a git dependency.
  for (const name of ['preinstall', 'install', 'postinstall']) {
    assert.equal(manifest.scripts[name], undefined, `a script that runs at installation: ${name}`);
  }
});

test('the declared types', () => {
  const source = ts.createSourceFile('index.d.ts', read('index.d.ts'), ts.ScriptTarget.Latest);
  const printer = ts.createPrinter({ removeComments: true });
  compare('declarations.txt', printer.printFile(source));
});

test('every error class and code is declared', () => {
  const declared = read('index.d.ts');
  const classes = Object.getOwnPropertyNames(ReserveResource).filter((name) => name.endsWith('Error'));
  const missing = classes.filter((name) => !declared.includes(`export class ${name} `));
  assert.deepEqual(missing, []);
});
