// The error classes that callers meet, and the making of them from what the native side sends.
// Nothing else in the package creates an error for a caller.
'use strict';

// Enumerable on the error, so that they show when it is printed; `message` and `cause` are set apart.
const FIELDS = ['key', 'val', 'holder', 'host', 'port', 'released', 'lost', 'failed'];

class ReservationError extends Error {
  constructor(message, code, details) {
    super(message);
    this.code = code;
    if (details == null) return;
    for (const field of FIELDS) {
      const value = details[field];
      if (value != null && !(Array.isArray(value) && value.length === 0)) this[field] = value;
    }
    if (details.cause != null) hide(this, 'cause', details.cause);
  }

  // Of all that JSON would take from an error by itself, the message is not part.
  toJSON() {
    return members_of(this, CAUSES);
  }

  // `name` tells the class, for people and for code across realms. Written out, an error of ours stays what
  // it was in 0.4.0, "Error: message": log lines are compared and searched for by that text.
  toString() {
    return `Error: ${this.message}`;
  }
}

const BASIC = ['name', 'code', 'message'];

// How many causes are written, each the cause of the one before: a chain may be a ring.
const CAUSES = 4;

/**
 * What JSON gets of an error: name, code and message, our fields, and its causes likewise. A replacer that writes
 * errors as texts, as kayvee's does, is to know it as one of ours; JSON itself looks at nothing but its members.
 */
function members_of(error, causes) {
  const members = Object.create(ReservationError.prototype);
  const ours = error instanceof ReservationError;
  for (const field of ours ? BASIC.concat(FIELDS) : BASIC) {
    const value = error[field];
    // What others call a code may be anything, and JSON throws at some of it.
    if (ours ? value !== undefined : is_plain(value)) define(members, field, value, true);
  }
  const { cause } = error;
  if (cause instanceof Error && causes > 0) define(members, 'cause', members_of(cause, causes - 1), true);
  return members;
}

function is_plain(value) {
  return typeof value === 'string' || typeof value === 'number';
}

/** A wrong argument, field or option. Nothing was sent to redis. */
class InvalidArgumentError extends ReservationError {}
/** No connection could be had, or it broke and the call's time was up. */
class RedisConnectionError extends ReservationError {}
/** Redis refused the credentials, or what they may do. */
class RedisAuthError extends ReservationError {}
/** Redis answered with an error; its text stands in the message. */
class RedisReplyError extends ReservationError {}
/** Redis did not answer within `command_timeout`. */
class RedisTimeoutError extends ReservationError {}
/** What was held is no longer ours. */
class ReservationLostError extends ReservationError {}
/** A renewal was asked for while nothing is held. */
class ReservationNotHeldError extends ReservationError {}
/** Too few replicas had the lock in time (`min_replicas`); it was given back. */
class TooFewReplicasError extends ReservationError {}
/** The `timeout` of a wait passed before the resource was free. */
class ReservationTimeoutError extends ReservationError {}
/** The native part of the package could not be loaded on this machine. */
class NativeLoadError extends ReservationError {}

const CLASS_OF_CODE = {
  ERR_INVALID_ARG_TYPE: InvalidArgumentError,
  ERR_INVALID_ARG_VALUE: InvalidArgumentError,
  ERR_REDIS_CONNECTION: RedisConnectionError,
  ERR_REDIS_AUTH: RedisAuthError,
  ERR_REDIS_REPLY: RedisReplyError,
  ERR_REDIS_TIMEOUT: RedisTimeoutError,
  ERR_RESERVATION_LOST: ReservationLostError,
  ERR_RESERVATION_NOT_HELD: ReservationNotHeldError,
  ERR_RESERVATION_TIMEOUT: ReservationTimeoutError,
  ERR_TOO_FEW_REPLICAS: TooFewReplicasError,
  ERR_NATIVE_LOAD: NativeLoadError,
  ERR_TOO_MANY_CALLS: ReservationError,
};

const classes = {
  ReservationError,
  InvalidArgumentError,
  RedisConnectionError,
  RedisAuthError,
  RedisReplyError,
  RedisTimeoutError,
  ReservationLostError,
  ReservationNotHeldError,
  ReservationTimeoutError,
  TooFewReplicasError,
  NativeLoadError,
};

for (const name of Object.keys(classes)) hide(classes[name].prototype, 'name', name);

function hide(object, field, value) {
  define(object, field, value, false);
}

function define(object, field, value, enumerable) {
  Object.defineProperty(object, field, { value, writable: true, configurable: true, enumerable });
}

/** An error of the class that belongs to `code`. */
function make_error(code, message, details) {
  const Class = CLASS_OF_CODE[code] || ReservationError;
  return new Class(message, code, details);
}

/**
 * What the native side sent instead of an error ({ code, message, … }) as an error. One that was thrown by ours stays itself,
 * but for its stack: what read the arguments may be ten calls deep, which is all that a stack shows, and none the caller's.
 */
function from_native(plain) {
  if (plain == null) return plain;
  // What the native side throws, it throws for one of two reasons: a call too many, or what only it can read, such as a key.
  if (plain.code === 'InvalidArg') return make_error('ERR_INVALID_ARG_VALUE', plain.message);
  if (plain.code === 'QueueFull') return make_error('ERR_TOO_MANY_CALLS', plain.message);
  if (plain instanceof Error) return place(plain);
  const { cause } = plain;
  if (cause == null || cause instanceof Error) return make_error(plain.code, plain.message, plain);
  const inner = new Error(cause.message);
  // It happened where there is no JavaScript: no frame has anything to say of it.
  hide(inner, 'stack', `Error: ${cause.message}`);
  if (cause.code != null) inner.code = cause.code;
  return make_error(plain.code, plain.message, Object.assign({}, plain, { cause: inner }));
}

// The errors whose stacks lead to the caller.
const placed = new WeakSet();

/** Gives an error of ours the stack of whoever calls this first. Any other error keeps its own. */
function place(error) {
  if (!(error instanceof ReservationError) || placed.has(error)) return error;
  placed.add(error);
  Error.captureStackTrace(error, place);
  return error;
}

/** What an abandoned wait is answered with where the signal brings no reason that a callback could read as one. */
function abort_error(cause) {
  const error = new Error('The wait was aborted by its signal.');
  hide(error, 'name', 'AbortError');
  error.code = 'ABORT_ERR';
  hide(error, 'toJSON', ReservationError.prototype.toJSON);
  if (cause !== undefined) hide(error, 'cause', cause);
  return error;
}

/**
 * An error that JSON can make something of, to be logged in place of one that is not ours and that JSON would make `{}` of.
 * Anything else stays itself.
 */
function with_json(value) {
  if (!(value instanceof Error) || typeof value.toJSON === 'function') return value;
  const copy = new Error(value.message);
  for (const field of ['name', 'stack', 'cause'])
    if (value[field] !== undefined) hide(copy, field, value[field]);
  if (value.code !== undefined) copy.code = value.code;
  hide(copy, 'toJSON', ReservationError.prototype.toJSON);
  return copy;
}

/**
 * What was received, short enough for one line. Objects are told by their kind alone, and a text that looks like
 * an address with credentials by its length: their content may be a secret.
 */
function describe(value) {
  switch (typeof value) {
    case 'string':
      if (/:\/\/|@/.test(value)) return `a string of ${value.length} characters`;
      return JSON.stringify(value.length > 60 ? `${value.slice(0, 57)}...` : value);
    case 'function':
      return value.name ? `the function ${value.name}` : 'a function';
    case 'object':
      return value === null ? 'null' : `an instance of ${kind_of(value)}`;
    case 'bigint':
      return `${value}n`;
    default:
      return String(value);
  }
}

function kind_of(object) {
  try {
    return object.constructor.name || 'Object';
  } catch (_) {
    return 'Object';
  }
}

module.exports = { classes, make_error, from_native, place, abort_error, with_json, describe };
