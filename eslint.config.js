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
    },
  },
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
