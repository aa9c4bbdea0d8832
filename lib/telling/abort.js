// Abort signals, both ways: hearing a caller's, with one listener a signal however many waits share it; and aborting
// one of our own with a reason, also on runtimes whose abort() knows no reason.
'use strict';

const events = require('events');
const { abort_error } = require('../errors');

const heard = new WeakMap();

/** Calls `react` when the signal is aborted. Returns what takes it back. */
function on_abort(signal, react) {
  let entry = heard.get(signal);
  if (entry === undefined) {
    const reactions = new Set();
    entry = {
      reactions,
      listener() {
        for (const reaction of reactions) reaction();
      },
    };
    heard.set(signal, entry);
  }
  // A listener each would have node warn of a leak at the eleventh wait.
  if (entry.reactions.size === 0) signal.addEventListener('abort', entry.listener);
  entry.reactions.add(react);
  return function forget() {
    entry.reactions.delete(react);
    if (entry.reactions.size > 0 || typeof signal.removeEventListener !== 'function') return;
    signal.removeEventListener('abort', entry.listener);
  };
}

/** What an abandoned call is answered with: the signal's reason, or an AbortError where it has none. */
function reason_of(signal, for_callback) {
  const { reason } = signal;
  if (reason === undefined) return abort_error();
  // A callback would take abort(null) or abort(0) for success.
  return reason || !for_callback ? reason : abort_error(reason);
}

/** A controller whose signal any number may listen to: each request of a job does. Node would warn of a leak at the eleventh. */
function make_controller() {
  const controller = new AbortController();
  try {
    events.setMaxListeners(0, controller.signal);
  } catch (_) {
    // Not on this runtime; then it does not count them either.
  }
  return controller;
}

/** Aborts for the first reason that there is; a signal keeps that one. */
function abort(controller, reason) {
  const { signal } = controller;
  if (signal.aborted) return;
  controller.abort(reason);
  if (signal.reason !== reason)
    Object.defineProperty(signal, 'reason', { value: reason, configurable: true });
}

module.exports = { on_abort, reason_of, abort, make_controller };
