// The error classes, and making errors of them. Every error that a caller gets is made here, also those of the native side.
'use strict';

const { define_enumerable, define_non_enumerable } = require('./properties');

// The details of an error, enumerable so that they are printed.
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
    if (details.cause != null) define_non_enumerable(this, 'cause', details.cause);
  }

  // JSON.stringify alone would leave the message out.
  toJSON() {
    return members_of(this, CAUSES);
  }

  // "Error: message" as in 0.4.0, without the class: people search and compare log lines by that text. The class is in
  // `name`.
  toString() {
    return `Error: ${this.message}`;
  }
}

const BASIC = ['name', 'code', 'message'];

// How many causes JSON gets at most, since a chain of causes may be circular.
const CAUSES = 4;

/**
 * An error for JSON: name, code, message, our fields, and its causes likewise. It inherits from ReservationError, so that a
 * replacer that writes errors as text, such as kayvee's, recognises it as an error.
 */
function members_of(error, causes) {
  const members = Object.create(ReservationError.prototype);
  const ours = error instanceof ReservationError;
  for (const field of ours ? BASIC.concat(FIELDS) : BASIC) {
    const value = error[field];
    // A foreign error's `code` may be anything, and JSON.stringify throws for some values.
    if (ours ? value !== undefined : is_plain(value)) define_enumerable(members, field, value);
  }
  const { cause } = error;
  if (cause instanceof Error && causes > 0)
    define_enumerable(members, 'cause', members_of(cause, causes - 1));
  return members;
}

function is_plain(value) {
  return typeof value === 'string' || typeof value === 'number';
}

/** A wrong argument, field or option. Nothing was sent to redis. */
class InvalidArgumentError extends ReservationError {}
/** No connection could be made, or it broke and the call's time ran out. */
class RedisConnectionError extends ReservationError {}
/** Redis refused the credentials, or denied the user a command. */
class RedisAuthError extends ReservationError {}
/** Redis answered with an error. The message quotes it. */
class RedisReplyError extends ReservationError {}
/** Redis did not answer within `command_timeout`. */
class RedisTimeoutError extends ReservationError {}
/** A reservation was lost: another holds its key, or its lease ran out. */
class ReservationLostError extends ReservationError {}
/** A renewal was called while nothing is held. */
class ReservationNotHeldError extends ReservationError {}
/** Fewer than `min_replicas` replicas confirmed the lock in time. It was released. */
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

for (const name of Object.keys(classes)) define_non_enumerable(classes[name].prototype, 'name', name);

/** An error of the class that `code` has. */
function make_error(code, message, details) {
  const Class = CLASS_OF_CODE[code] || ReservationError;
  return new Class(message, code, details);
}

/**
 * Makes an error of what the native side sent ({ code, message, … }). An error that this package threw is returned itself,
 * with a new stack: the check that threw may be ten calls deep, and a stack shows ten, so the caller's line would be missing.
 */
function from_native(plain) {
  if (plain == null) return plain;
  // Thrown by the native side: too many calls, or an argument that only it can check, such as a private key.
  if (plain.code === 'InvalidArg') return make_error('ERR_INVALID_ARG_VALUE', plain.message);
  if (plain.code === 'QueueFull') return make_error('ERR_TOO_MANY_CALLS', plain.message);
  // A panic, or a call to Node that failed.
  if (plain.code === 'GenericFailure') return make_error('ERR_INTERNAL', plain.message, { cause: plain });
  if (plain instanceof Error) return capture_stack(plain);
  const { cause } = plain;
  if (cause == null || cause instanceof Error) return make_error(plain.code, plain.message, plain);
  const inner = new Error(cause.message);
  // It comes from the native side, so no JavaScript frame belongs in its stack.
  define_non_enumerable(inner, 'stack', `Error: ${cause.message}`);
  if (cause.code != null) inner.code = cause.code;
  return make_error(plain.code, plain.message, Object.assign({}, plain, { cause: inner }));
}

// Errors whose stack was captured already.
const captured = new WeakSet();

/** Sets the stack of one of our errors to the current one, the first time. Other errors keep theirs. */
function capture_stack(error) {
  if (!(error instanceof ReservationError) || captured.has(error)) return error;
  captured.add(error);
  Error.captureStackTrace(error, capture_stack);
  return error;
}

/** The error of an aborted wait whose signal has no reason, or one that a callback would take for success. */
function abort_error(cause) {
  const error = new Error('The wait was aborted by its signal.');
  define_non_enumerable(error, 'name', 'AbortError');
  error.code = 'ABORT_ERR';
  define_non_enumerable(error, 'toJSON', ReservationError.prototype.toJSON);
  if (cause !== undefined) define_non_enumerable(error, 'cause', cause);
  return error;
}

/** A copy of a foreign error with a toJSON, for a log: JSON.stringify would make `{}` of it. Any other value is returned. */
function with_json(value) {
  if (!(value instanceof Error) || typeof value.toJSON === 'function') return value;
  const copy = new Error(value.message);
  for (const field of ['name', 'stack', 'cause'])
    if (value[field] !== undefined) define_non_enumerable(copy, field, value[field]);
  if (value.code !== undefined) copy.code = value.code;
  define_non_enumerable(copy, 'toJSON', ReservationError.prototype.toJSON);
  return copy;
}

/**
 * A value for a message, in one line. Of an object only the class is shown, and of a string that may be a URL with credentials
 * only the length: the content may be secret.
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

module.exports = { classes, make_error, from_native, capture_stack, abort_error, with_json, describe };
