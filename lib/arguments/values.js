// Arguments and fields, one at a time: turns loosely typed values into strictly typed ones, or throws the error that the
// caller's callback gets. Options are checked in options.js, combinations in location.js.
'use strict';

const { make_error, describe } = require('../errors');
const { member_of, refuse_unknown } = require('./names');

// In ms: 278 years. Longer times are capped, which still means "for ever" and fits every clock that counts nanoseconds.
const LONGEST = Math.pow(2, 43);

const RESOURCES = 'Pass a string, a number, or an object whose String(resource) is a name.';
// String(value) of values that are not meant as names. As strings they are names.
const MEANINGLESS = ['NaN', 'Invalid Date', 'undefined', 'null'];
// Set on options that came in one object with the fields: the names of the fields.
const WITH_FIELDS = Symbol('redis-reservation fields');
const DEFAULT_KEY_PREFIX = 'reservation-';
const WAIT_OPTIONS = ['timeout', 'signal'];

function wrong_type(message, cause) {
  return make_error('ERR_INVALID_ARG_TYPE', message, { cause });
}

function wrong_value(message) {
  return make_error('ERR_INVALID_ARG_VALUE', message);
}

// Half of a surrogate pair, or a whole one.
const SURROGATE = /[\ud800-\udfff]/;

/** The name of a resource: String(resource), if that can serve as a name. */
function resource_name(resource) {
  const name = typeof resource === 'string' ? resource : text_of_resource(resource);
  if (name === '') {
    throw wrong_value(`resource cannot be empty: ${describe(resource)} gives an empty name. ${RESOURCES}`);
  }
  // All objects of a class have this text, so all would share one lock. Often it is a promise that somebody forgot to
  // await.
  if (name === '[object Object]' || (typeof resource === 'object' && /^\[object [^\]]*\]$/.test(name))) {
    throw wrong_type(`resource cannot be ${describe(resource)}: its text is ${name}. ${RESOURCES}`);
  }
  if (typeof resource !== 'string' && MEANINGLESS.includes(name)) {
    throw wrong_value(`resource cannot be ${name}: every such value would share one lock. ${RESOURCES}`);
  }
  return as_utf8(name);
}

/**
 * A text as UTF-8 can hold it: a lone surrogate becomes U+FFFD, as it does in redis's keys. So the names that redis and the
 * native side report match the ones here.
 */
function as_utf8(text) {
  return SURROGATE.test(text) ? Buffer.from(text).toString() : text;
}

function text_of_resource(resource) {
  const kind = typeof resource;
  if (kind === 'function') {
    throw wrong_type(`resource cannot be ${describe(resource)}: it comes before the callback. ${RESOURCES}`);
  }
  if (resource == null || kind === 'symbol') {
    throw wrong_type(`resource cannot be ${describe(resource)}. ${RESOURCES}`);
  }
  try {
    return String(resource);
  } catch (cause) {
    throw wrong_type(`resource cannot be ${describe(resource)}: it has no text. ${RESOURCES}`, cause);
  }
}

/** The key of a resource in redis. With the default prefix it is the one that all peers use, 0.4.0 included. */
function key_of(name, prefix) {
  return prefix + name;
}

/** A number, or the number in a string, as environment variables hold it; NaN for anything else. */
function number_from(value) {
  if (typeof value === 'number') return value;
  return typeof value === 'string' && value.trim() !== '' ? Number(value) : NaN;
}

/** The ttl in seconds. */
function lock_ttl_from(value) {
  const seconds = number_from(value);
  // Redis counts whole milliseconds, at least one.
  if (seconds > 0 && seconds < Infinity) return Math.min(Math.max(seconds, 0.001), LONGEST / 1000);
  throw wrong_value(
    `lock_ttl must be a number of seconds above 0; it is ${describe(value)}. ` +
      'Pass it as the fifth argument of the constructor, or set reservation.lock_ttl.',
  );
}

/** Milliseconds between renewals: Infinity for none, 0 for the default (a third of the ttl). */
function heartbeat_from(value) {
  const interval = number_from(value);
  if (!(interval > 0)) return 0;
  if (interval === Infinity) return Infinity;
  return Math.min(Math.max(interval, 1), LONGEST);
}

/** A port; undefined if it is not given. `field` is its name in messages, `otherwise` the default that they mention. */
function port_from(value, field = 'port', otherwise = 6379) {
  if (!value) return undefined;
  if (typeof value !== 'number' && typeof value !== 'string') {
    throw wrong_type(
      `${field} must be a number or its text; it is ${describe(value)}. Leave it out for ${otherwise}.`,
    );
  }
  const port = number_from(value);
  if (Number.isInteger(port) && port >= 1 && port <= 65535) return port;
  // It may be a connection string with a password in it.
  const shown = /[,;=]/.test(value) ? `a string of ${value.length} characters` : describe(value);
  throw wrong_value(
    `${field} must be a whole number from 1 to 65535; it is ${shown}. Leave it out for ${otherwise}.`,
  );
}

/** A password; undefined if it is not given. No message shows it. */
function password_from(value, field = 'password') {
  if (!value) return undefined;
  if (typeof value === 'string') return value;
  // As 0.4.0 did: configuration files have passwords that are numbers.
  if (typeof value === 'number') return String(value);
  const place = typeof value === 'object' ? ' Options come behind it.' : '';
  throw wrong_type(
    `${field} must be a string; it is of type ${typeof value}. Leave it out for none.${place}`,
  );
}

/** The owner's name: the start of a lock's value. */
function owner_from(by, identifier) {
  const name = text_of('by', by);
  if (name !== '[object Object]') return `${name}-${text_of('identifier', identifier)}`;
  throw wrong_type(
    `by must be the worker's name; it is ${describe(by)}. Pass its name and the other arguments, or one object alone: ` +
      'new ReserveResource({ by, host, port, … }).',
  );
}

function text_of(field, value) {
  try {
    if (typeof value !== 'symbol') return String(value);
  } catch (cause) {
    throw wrong_type(`${field} must have a text; ${describe(value)} has none.`, cause);
  }
  throw wrong_type(`${field} must have a text; it is a symbol. Pass a string.`);
}

/** An option in milliseconds, at least `least`; undefined if it is not given. */
function milliseconds_from(name, value, least) {
  if (value == null) return undefined;
  const milliseconds = number_from(value);
  if (milliseconds >= least) return Math.min(milliseconds, LONGEST);
  throw wrong_value(
    `${name} must be a number of milliseconds, at least ${least}; it is ${describe(value)}. ` +
      'Leave it out for the default.',
  );
}

/** The options, if they are an object; throws otherwise. */
function object_from(options, what) {
  if (typeof options === 'object' && !Array.isArray(options)) return options;
  throw wrong_type(`the options of ${what} must be an object; they are ${describe(options)}.`);
}

/** Whether an object is a plain one, of any realm, and no instance of a class. */
function is_plain(object) {
  const prototype = Object.getPrototypeOf(object);
  return prototype === null || (!Array.isArray(object) && Object.getPrototypeOf(prototype) === null);
}

/** Whether a value is an AbortSignal, of any implementation: runtimes without one use a package's. */
function is_signal(value) {
  return typeof value.aborted === 'boolean' && typeof value.addEventListener === 'function';
}

/** The options of wait_until_lock as { timeout, signal }; each undefined if it is not given. */
function wait_options_from(options) {
  if (options == null) return { timeout: undefined, signal: undefined };
  if (!Number.isNaN(number_from(options))) {
    throw wrong_type(
      `the options of wait_until_lock must be an object; they are ${describe(options)}. Pass { timeout: ${number_from(options)} }.`,
    );
  }
  if (is_signal(options)) {
    throw wrong_type('the options of wait_until_lock must be an object; they are a signal. Pass { signal }.');
  }
  refuse_unknown(object_from(options, 'wait_until_lock'), WAIT_OPTIONS, 'wait_until_lock');
  const timeout = milliseconds_from('timeout', member_of(options, 'timeout'), 0);
  const signal = member_of(options, 'signal');
  if (signal == null) return { timeout, signal: undefined };
  if (!is_signal(signal)) throw wrong_type(`signal must be an AbortSignal; it is ${describe(signal)}.`);
  return { timeout, signal };
}

module.exports = {
  DEFAULT_KEY_PREFIX,
  WAIT_OPTIONS,
  WITH_FIELDS,
  as_utf8,
  heartbeat_from,
  is_plain,
  key_of,
  lock_ttl_from,
  milliseconds_from,
  number_from,
  object_from,
  owner_from,
  password_from,
  port_from,
  resource_name,
  wait_options_from,
  wrong_type,
  wrong_value,
};
