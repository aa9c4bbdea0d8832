// How one line gets into a log of any make: a function, or a logger. Nothing that happens there is thrown at the code that
// logs. A log that fails costs no line: its lines go to stderr, and with the first of them the reason and the remedy.
'use strict';

const { describe, with_json } = require('../errors');

// The methods that a line of each level may be given to, the best first: kayvee's, then those of other loggers. The last
// is Nest's.
const METHODS = {
  trace: ['traceD', 'debugD', 'infoD', 'trace', 'debug', 'info', 'log'],
  debug: ['debugD', 'infoD', 'debug', 'info', 'log'],
  info: ['infoD', 'info', 'log'],
  warning: ['warnD', 'infoD', 'warn', 'warning', 'info', 'log'],
  error: ['errorD', 'infoD', 'error', 'info'],
  critical: ['criticalD', 'errorD', 'infoD', 'critical', 'fatal', 'error', 'info'],
};

const ENOUGH = ['infoD', 'errorD', 'info', 'error'];

// Under this name every logger of pino's has its serializers.
const PINO = Symbol.for('pino.serializers');

const REMEDY =
  'The lines of this log go to stderr. If it is a method taken off its logger, pass the logger itself, or the method bound to it: logger.info.bind(logger).';
const NO_METHOD = `It has none of the methods ${ENOUGH.join(', ')}.`;

// The logs that were found to fail.
const failed = new WeakSet();

/** Whether something takes titles and events. Throws what its getters throw. */
function is_logger(log) {
  return log != null && ENOUGH.some((name) => typeof log[name] === 'function');
}

/** Hands a line to a function. `text` makes a line of an event. */
function write_line(log, event, text) {
  attempt(
    log,
    () => event,
    () => {
      const line = text(event);
      return needs_this(log) ? Reflect.apply(log, NOBODY, [line]) : log(line);
    },
  );
}

/**
 * Hands `fields` to the best method that a logger has for the level: title first, or fields first to those that take the
 * title for all there is. One that has a method for errors alone gets errors alone. `event` makes what a line would be made
 * of.
 */
function give_event(logger, level, title, fields, event) {
  attempt(logger, event, () => {
    if (!is_logger(logger)) throw new TypeError(NO_METHOD);
    const method = METHODS[level].find((name) => typeof logger[name] === 'function');
    if (method === undefined) return undefined;
    // kayvee's write an error as text themselves.
    if (method.endsWith('D')) return logger[method](title, fields);
    const err = with_json(fields.err);
    const members = err === fields.err ? fields : Object.assign({}, fields, { err });
    if (!takes_fields_first(logger)) return logger[method](title, members);
    // The level there is a number of the logger's own, and must not be written over.
    const others = Object.assign({}, members);
    delete others.level;
    return logger[method](others, title);
  });
}

/** Known by what such loggers have for the fields: serializers, as pino and bunyan call them. */
function takes_fields_first(logger) {
  return logger[PINO] !== undefined || typeof logger.addSerializers === 'function';
}

// What a function finds as its `this` that is called alone: in sloppy code that would be the global object, where a method of
// a logger finds nothing of its own, and may return without a word, as bunyan's do.
const NOBODY = new Proxy(
  {},
  {
    get(_target, name) {
      throw new TypeError(`It looks for ${String(name)} in its this, and is called alone.`);
    },
  },
);

/** Whether it is sloppy code: V8 shows that by these two members. */
function needs_this(log) {
  return (
    Object.prototype.hasOwnProperty.call(log, 'caller') &&
    Object.prototype.hasOwnProperty.call(log, 'arguments')
  );
}

function attempt(log, event, hand) {
  try {
    const returned = hand();
    // Slow logs return promises. Their failures are no more the caller's than exceptions are.
    if (returned == null || typeof returned.then !== 'function') return;
    returned.then(undefined, (reason) => make_up(log, event, reason));
  } catch (reason) {
    make_up(log, event, reason);
  }
}

/** A line that a log did not take; `make` makes its event. */
function make_up(log, make, reason) {
  try {
    const event = make();
    if (!failed.has(log)) {
      if (Object(log) === log) failed.add(log);
      const { source, via } = event;
      to_stderr({ level: 'error', source, via, title: 'log-failed', err: told(reason), remedy: REMEDY });
    }
    to_stderr(event);
  } catch (_) {
    // There is nothing left to write to.
  }
}

// The text of somebody else's error: an address in it may have a password.
function told(reason) {
  try {
    const text = reason instanceof Error ? `${reason.name}: ${reason.message}` : describe(reason);
    return text.replace(/\/\/\S*@/g, '//[hidden]@');
  } catch (_) {
    return 'an error that cannot be read';
  }
}

function to_stderr(event) {
  // eslint-disable-next-line no-console -- where Node itself tells of trouble.
  console.error(format(event));
}

// The environment as kayvee reads it: when it is loaded, for what stands first in every line.
const ENVIRONMENT = [
  ['deploy_env', '_DEPLOY_ENV'],
  ['wf_id', '_EXECUTION_NAME'],
  ['pod-id', '_POD_ID'],
  ['pod-shortname', '_POD_SHORTNAME'],
  ['pod-region', '_POD_REGION'],
  ['pod-account', '_POD_ACCOUNT'],
];
const first = from_environment();
const nothing_first = Object.keys(first).length === 0;

function from_environment() {
  const fields = {};
  for (const [field, name] of ENVIRONMENT) if (process.env[name]) fields[field] = process.env[name];
  return fields;
}

/** kayvee's line of an event: JSON, its keys in their order. */
function format(event) {
  const fields = nothing_first ? event : Object.assign({}, first, event);
  try {
    return JSON.stringify(fields, readable);
  } catch (_) {
    // A circular or hostile value, in metadata or a resource: the rest of the line is still worth having.
    const printable = {};
    for (const key of Object.keys(fields)) printable[key] = printable_value(fields[key]);
    return JSON.stringify(printable);
  }
}

function readable(_key, value) {
  if (value instanceof Error) return value.toString();
  return typeof value === 'bigint' ? String(value) : value;
}

function printable_value(value) {
  try {
    const text = JSON.stringify(value, readable);
    return text === undefined ? undefined : JSON.parse(text);
  } catch (_) {
    return '[unprintable]';
  }
}

module.exports = { is_logger, write_line, give_event, make_up, format, from_environment };
