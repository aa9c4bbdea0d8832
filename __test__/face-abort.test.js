// Listening to a caller's abort signal: one listener however many waits share it, none once they are over.
'use strict';

const assert = require('node:assert/strict');
const { test } = require('node:test');
const { on_abort, reason_of, abort } = require('../lib/telling/abort');

/** A signal as a package for old runtimes brings it: no reason, and it counts its listeners. */
function makeSignal() {
  const listeners = new Set();
  return {
    aborted: false,
    listeners,
    addEventListener: (type, listener) => listeners.add(listener),
    removeEventListener: (type, listener) => listeners.delete(listener),
    fire() {
      this.aborted = true;
      for (const listener of listeners) listener();
    },
  };
}

test('many waits share one listener, and the last to leave takes it away', () => {
  const signal = makeSignal();
  const heard = [];
  const leave = Array.from({ length: 50 }, (_, index) => on_abort(signal, () => heard.push(index)));
  assert.equal(signal.listeners.size, 1);
  leave[3]();
  leave[3]();
  assert.equal(signal.listeners.size, 1);
  signal.fire();
  assert.equal(heard.length, 49);
  for (const one of leave) one();
  assert.equal(signal.listeners.size, 0);
  on_abort(signal, () => heard.push('again'))();
  assert.equal(signal.listeners.size, 0);
});

test('a wait that is over while others are told is not told', () => {
  const signal = makeSignal();
  const heard = [];
  let leave = () => {};
  on_abort(signal, () => {
    heard.push('first');
    leave();
  });
  leave = on_abort(signal, () => heard.push('second'));
  signal.fire();
  assert.deepEqual(heard, ['first']);
});

test('the reason is the signal’s own, or an AbortError where there is none', () => {
  const reason = new Error('mine');
  assert.equal(reason_of(AbortSignal.abort(reason), true), reason);
  assert.equal(reason_of(AbortSignal.abort(), true).name, 'AbortError');
  assert.equal(reason_of(makeSignal(), false).name, 'AbortError');
  assert.equal(reason_of(AbortSignal.abort(0), false), 0);
  const wrapped = reason_of(AbortSignal.abort(0), true);
  assert.deepEqual([wrapped.name, wrapped.cause], ['AbortError', 0]);
});

test('ours has its reason on runtimes whose abort() takes none, and keeps the first', () => {
  const controller = new AbortController();
  const old = { signal: controller.signal, abort: () => controller.abort() };
  const reason = new Error('lost');
  abort(old, reason);
  assert.equal(controller.signal.reason, reason);
  abort(old, new Error('later'));
  assert.equal(controller.signal.reason, reason);
});
