// Methods that a subclass, a patched instance or a patched prototype has put in the place of ours: which they are, and how
// they are asked. What they do is the caller's own; here it comes to one answer at most.
'use strict';

const { describe, make_error } = require('../errors');

const METHODS = ['lock', 'ensure_reservation', '_ensure_reservation', '_set_expiration', '_init_redis'];

// What they are when nobody has touched them.
const ours = {};

/** Brings the prototype of this package, before a caller can patch it. */
function set_base(prototype) {
  for (const method of METHODS) ours[method] = prototype[method];
}

function is_overridden(instance, method) {
  return instance[method] !== ours[method];
}

/** Whether it renews in its own way, and finds losses in its own way. */
function has_own_renewal(instance) {
  return is_overridden(instance, 'ensure_reservation') || is_overridden(instance, '_ensure_reservation');
}

/**
 * Calls a method with a callback, and `answer(error, value)` with what comes first: the callback, an exception, or a promise
 * where the method returns one. `error` is null for success. A promise of nothing says nothing: an async method that was
 * given a callback returns one, too.
 */
function ask(instance, method, parameters, answer) {
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

/** A callback would take it for success. */
function without_reason(method, thrown) {
  return make_error(
    'ERR_INVALID_ARG_VALUE',
    `An overridden ${method} threw ${String(thrown)} instead of an error.`,
  );
}

module.exports = { ask, has_own_renewal, is_overridden, set_base };
