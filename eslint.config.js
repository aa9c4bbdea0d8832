// What the JS linter checks: the package itself as Node 12 must read it, the rest as Node 20 does.
'use strict';

const js = require('@eslint/js');
const globals = require('globals');

const rules = {
  ...js.configs.recommended.rules,
  'no-unused-vars': ['error', { args: 'after-used', argsIgnorePattern: '^_', caughtErrors: 'none' }],
  'no-empty': ['error', { allowEmptyCatch: true }],
  'no-var': 'error',
  'prefer-const': 'error',
  eqeqeq: ['error', 'always', { null: 'ignore' }],
  'no-shadow': ['error', { builtinGlobals: false }],
  'no-throw-literal': 'error',
  'no-return-assign': 'error',
  'no-self-compare': 'error',
  'no-template-curly-in-string': 'error',
  'object-shorthand': 'error',
  strict: ['error', 'safe'],
};

// Tests of callers fake the global ones, and jsdom lacks some.
const message = 'Take it from lib/timers.js, which has what Node had when the package was loaded.';
const timers = [
  ...['setTimeout', 'clearTimeout', 'setInterval', 'clearInterval', 'setImmediate', 'clearImmediate'],
  'queueMicrotask',
];
const own_timers = {
  'no-restricted-globals': ['error', ...timers.map((name) => ({ name, message }))],
  'no-restricted-properties': [
    'error',
    { object: 'process', property: 'nextTick', message },
    ...['global', 'globalThis'].flatMap((object) =>
      timers.map((property) => ({ object, property, message })),
    ),
  ],
  'no-restricted-modules': [
    'error',
    ...['timers', 'node:timers', 'timers/promises', 'node:timers/promises'].map((name) => ({
      name,
      message,
    })),
  ],
};

module.exports = [
  { ignores: ['node_modules/', 'target/', '.cache/'] },
  {
    // What is published: nothing newer than the oldest Node in "engines" can parse.
    files: ['index.js', 'lib/**/*.js'],
    languageOptions: {
      ecmaVersion: 2019,
      sourceType: 'commonjs',
      globals: { ...globals.node, BigInt: 'readonly', globalThis: 'readonly' },
    },
    linterOptions: { reportUnusedDisableDirectives: 'error' },
    rules: {
      ...rules,
      // The constructor is a sloppy function on purpose: callers of CoffeeScript 1 and ES5 extend it.
      strict: 'off',
      // A library prints only where its caller asked for it.
      'no-console': 'error',
      ...own_timers,
    },
  },
  { files: ['lib/timers.js'], rules: { 'no-restricted-modules': 'off', 'no-restricted-properties': 'off' } },
  {
    files: ['**/*.js', '**/*.cjs'],
    ignores: ['index.js', 'lib/**'],
    languageOptions: { ecmaVersion: 2023, sourceType: 'commonjs', globals: globals.node },
    linterOptions: { reportUnusedDisableDirectives: 'error' },
    rules,
  },
  {
    files: ['**/*.mjs'],
    languageOptions: { ecmaVersion: 2023, sourceType: 'module', globals: globals.node },
    linterOptions: { reportUnusedDisableDirectives: 'error' },
    rules,
  },
];
