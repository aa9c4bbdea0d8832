// Abort signals. The caller's: one listener a signal, however many waits share it. Ours: aborted with a reason, also on
// runtimes whose abort() takes none.
'use strict';

const events = require('events');
const { abort_error } = require('../errors');

const entries = new WeakMap();

/** Calls `react` when the signal is aborted. Returns the function that removes it again. */
function on_abort(signal, react) {
  let entry = entries.get(signal);
  if (entry === undefined) {
    const reactions = new Set();
    entry = {
      reactions,
      listener() {
        for (const reaction of reactions) reaction();
      },
    };
    entries.set(signal, entry);
  }
  // With a listener for each wait, Node would warn of a leak at the eleventh.
  if (entry.reactions.size === 0) signal.addEventListener('abort', entry.listener);
  entry.reactions.add(react);
  return function forget() {
    entry.reactions.delete(react);
    if (entry.reactions.size > 0 || typeof signal.removeEventListener !== 'function') return;
    signal.removeEventListener('abort', entry.listener);
  };
}

/** The error of an aborted call: the signal's reason, or an AbortError if it has none. */
function reason_of(signal, for_callback) {
  const { reason } = signal;
  if (reason === undefined) return abort_error();
  // A callback would take abort(null) or abort(0) for success.
  return reason || !for_callback ? reason : abort_error(reason);
}

/** A controller whose signal takes any number of listeners, as each request of a job may add one. Node warns at the eleventh. */
function make_controller() {
  const controller = new AbortController();
  try {
    events.setMaxListeners(0, controller.signal);
  } catch (_) {
    // This runtime does not have it, and does not count listeners either.
  }
  return controller;
}

/** Aborts with a reason. A signal that is aborted keeps its first reason. */
function abort(controller, reason) {
  const { signal } = controller;
  if (signal.aborted) return;
  controller.abort(reason);
  if (signal.reason !== reason)
    Object.defineProperty(signal, 'reason', { value: reason, configurable: true });
}

module.exports = { on_abort, reason_of, abort, make_controller };
