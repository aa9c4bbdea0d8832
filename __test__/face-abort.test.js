// Listening to a caller's abort signal: all waits share one listener, and the last one removes it.
'use strict';

const assert = require('node:assert/strict');
const { test } = require('node:test');
const { on_abort, reason_of, abort } = require('../lib/telling/abort');

/** A signal as a polyfill makes it: without a reason. It counts its listeners. */
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

test('many waits share one listener, and the last one removes it', () => {
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

test('a wait that ends while others are being aborted is not aborted', () => {
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

test('the error is the reason of the signal, or an AbortError if it has none', () => {
  const reason = new Error('mine');
  assert.equal(reason_of(AbortSignal.abort(reason), true), reason);
  assert.equal(reason_of(AbortSignal.abort(), true).name, 'AbortError');
  assert.equal(reason_of(makeSignal(), false).name, 'AbortError');
  assert.equal(reason_of(AbortSignal.abort(0), false), 0);
  const wrapped = reason_of(AbortSignal.abort(0), true);
  assert.deepEqual([wrapped.name, wrapped.cause], ['AbortError', 0]);
});

test('our signal has its reason also where abort() takes none, and keeps the first one', () => {
  const controller = new AbortController();
  const old = { signal: controller.signal, abort: () => controller.abort() };
  const reason = new Error('lost');
  abort(old, reason);
  assert.equal(controller.signal.reason, reason);
  abort(old, new Error('later'));
  assert.equal(controller.signal.reason, reason);
});
