// Overridden methods: which methods of an instance a subclass, a patched instance or a patched prototype has replaced, and
// calling them so that they answer at most once.
'use strict';

const { describe, make_error } = require('../errors');

const METHODS = ['lock', 'ensure_reservation', '_ensure_reservation', '_set_expiration', '_init_redis'];

// The methods of this package, before anybody replaced them.
const originals = {};

/** Notes the methods of the prototype, before a caller can patch it. */
function set_base(prototype) {
  for (const method of METHODS) originals[method] = prototype[method];
}

function is_overridden(instance, method) {
  return instance[method] !== originals[method];
}

/** Whether the instance overrides renewal, and so finds losses itself. */
function has_own_renewal(instance) {
  return is_overridden(instance, 'ensure_reservation') || is_overridden(instance, '_ensure_reservation');
}

/**
 * Calls a method with a callback, and `answer(error, value)` once: for its callback, its exception or its promise, whichever
 * comes first. `error` is null for success. A promise of undefined is ignored: an async method that calls back returns one
 * too.
 */
function call_method(instance, method, parameters, answer) {
  let is_answered = false;
  const once = (error, value) => {
    if (is_answered) return;
    is_answered = true;
    answer(error, value);
  };
  const fail = (error) => once(error || without_reason(method, error));
  let returned;
  try {
    if (typeof instance[method] !== 'function') throw no_method(method, instance[method]);
    returned = instance[method](...parameters, (error, value) => once(error || null, value));
    if (returned == null || typeof returned.then !== 'function') return;
  } catch (error) {
    fail(error);
    return;
  }
  returned.then((value) => {
    if (value !== undefined) once(null, value);
  }, fail);
}

function no_method(method, value) {
  return make_error('ERR_INVALID_ARG_TYPE', `${method} must be a method; it is ${describe(value)}.`);
}

/** For a falsy value that was thrown: as an error, a callback would take it for success. */
function without_reason(method, thrown) {
  return make_error(
    'ERR_INVALID_ARG_VALUE',
    `An overridden ${method} threw ${String(thrown)} instead of an error.`,
  );
}

module.exports = { call_method, has_own_renewal, is_overridden, set_base };
