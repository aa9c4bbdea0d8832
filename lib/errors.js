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

  // `name` tells the class, for people and for code across realms. Written out, an error of ours stays what
  // it was in 0.4.0, "Error: message": log lines are compared and searched for by that text.
  toString() {
    return `Error: ${this.message}`;
  }
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
  ERR_RESOURCE_SHORTAGE: ReservationError,
  ERR_INTERNAL: ReservationError,
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
  Object.defineProperty(object, field, { value, writable: true, configurable: true, enumerable: false });
}

/** An error of the class that belongs to `code`. */
function make_error(code, message, details) {
  const Class = CLASS_OF_CODE[code] || ReservationError;
  return new Class(message, code, details);
}

/** What the native side sent instead of an error ({ code, message, … }) as an error; an error stays itself. */
function from_native(plain) {
  if (plain == null) return plain;
  // What the native side throws, it throws for one of two reasons: a call too many, or what only it can read, such as a key.
  if (plain.code === 'InvalidArg') return make_error('ERR_INVALID_ARG_VALUE', plain.message);
  if (plain.code === 'QueueFull') return make_error('ERR_TOO_MANY_CALLS', plain.message);
  // A panic, or a call to Node that failed.
  if (plain.code === 'GenericFailure') return make_error('ERR_INTERNAL', plain.message, { cause: plain });
  if (plain instanceof Error) return plain;
  const { cause } = plain;
  if (cause == null || cause instanceof Error) return make_error(plain.code, plain.message, plain);
  const inner = new Error(cause.message);
  if (cause.code != null) inner.code = cause.code;
  return make_error(plain.code, plain.message, Object.assign({}, plain, { cause: inner }));
}

/** What an abandoned wait is answered with where the signal brings no reason that a callback could read as one. */
function abort_error(cause) {
  const error = new Error('The wait was aborted by its signal.');
  hide(error, 'name', 'AbortError');
  error.code = 'ABORT_ERR';
  if (cause !== undefined) hide(error, 'cause', cause);
  return error;
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

module.exports = { classes, make_error, from_native, abort_error, describe };
