// Writing one line to any kind of log: a function, or a logger of any library. Errors of the log are never thrown at the code
// that logs. If a log fails, its lines go to stderr, and the first time also the reason and the remedy.
'use strict';

const { describe, with_json } = require('../errors');

// level -> the methods that may take its lines, best first: kayvee's, then those of other loggers. `log` is Nest's.
const METHODS = {
  trace: ['traceD', 'debugD', 'infoD', 'trace', 'debug', 'info', 'log'],
  debug: ['debugD', 'infoD', 'debug', 'info', 'log'],
  info: ['infoD', 'info', 'log'],
  warning: ['warnD', 'infoD', 'warn', 'warning', 'info', 'log'],
  error: ['errorD', 'infoD', 'error', 'info'],
  critical: ['criticalD', 'errorD', 'infoD', 'critical', 'fatal', 'error', 'info'],
};

const ENOUGH = ['infoD', 'errorD', 'info', 'error'];

// Every pino logger has its serializers under this symbol.
const PINO = Symbol.for('pino.serializers');

const REMEDY =
  'The lines of this log go to stderr. If it is a method taken off its logger, pass the logger itself, or the method bound to it: logger.info.bind(logger).';
const NO_METHOD = `It has none of the methods ${ENOUGH.join(', ')}.`;

// The logs that have failed.
const failed = new WeakSet();

/** Whether `log` has a method of a logger. Throws what its getters throw. */
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
      return needs_this(log) ? Reflect.apply(log, NO_RECEIVER, [line]) : log(line);
    },
  );
}

/**
 * Calls the logger's best method for the level, with (title, fields), or with (fields, title) for loggers that would ignore
 * what follows a title. A logger that only has a method for errors only gets errors. `event` makes the fields of a whole line,
 * for stderr.
 */
function give_event(logger, level, title, fields, event) {
  attempt(logger, event, () => {
    if (!is_logger(logger)) throw new TypeError(NO_METHOD);
    const method = METHODS[level].find((name) => typeof logger[name] === 'function');
    if (method === undefined) return undefined;
    // kayvee's methods write an error as text themselves.
    if (method.endsWith('D')) return logger[method](title, fields);
    const err = with_json(fields.err);
    const members = err === fields.err ? fields : Object.assign({}, fields, { err });
    if (!takes_fields_first(logger)) return logger[method](title, members);
    // Such a logger has a numeric `level` of its own, which ours must not overwrite.
    const others = Object.assign({}, members);
    delete others.level;
    return logger[method](others, title);
  });
}

/** Such loggers have serializers for fields: pino under a symbol, bunyan by addSerializers. */
function takes_fields_first(logger) {
  return logger[PINO] !== undefined || typeof logger.addSerializers === 'function';
}

// `this` for a sloppy-mode function. Otherwise `this` would be the global object, and a method taken off its logger might find
// nothing there and silently do nothing, as bunyan's do. This one throws as soon as it is read.
const NO_RECEIVER = new Proxy(
  {},
  {
    get(_target, name) {
      throw new TypeError(`It looks for ${String(name)} in its this, and is called alone.`);
    },
  },
);

/** Whether it is a sloppy-mode function: in V8 only these have the two properties. */
function needs_this(log) {
  return (
    Object.prototype.hasOwnProperty.call(log, 'caller') &&
    Object.prototype.hasOwnProperty.call(log, 'arguments')
  );
}

function attempt(log, event, hand) {
  try {
    const returned = hand();
    // An asynchronous log returns a promise; its rejection counts as a failure too.
    if (returned == null || typeof returned.then !== 'function') return;
    returned.then(undefined, (reason) => fall_back_to_stderr(log, event, reason));
  } catch (reason) {
    fall_back_to_stderr(log, event, reason);
  }
}

/** Writes a line to stderr that a log failed to take; `make` makes its event. */
function fall_back_to_stderr(log, make, reason) {
  try {
    const event = make();
    if (!failed.has(log)) {
      if (Object(log) === log) failed.add(log);
      const { source, via } = event;
      to_stderr({ level: 'error', source, via, title: 'log-failed', err: safe_text(reason), remedy: REMEDY });
    }
    to_stderr(event);
  } catch (_) {
    // Nothing is left to write to.
  }
}

// The text of a foreign error, without passwords in URLs.
function safe_text(reason) {
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

// The environment variables that kayvee reads when it is loaded, for the first fields of every line.
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

/** An event as a line, as kayvee formats it: JSON, keys in order. */
function format(event) {
  const fields = nothing_first ? event : Object.assign({}, first, event);
  try {
    return JSON.stringify(fields, readable);
  } catch (_) {
    // Metadata or a resource has a circular value, or one that throws. The rest of the line is still written.
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

module.exports = { is_logger, write_line, give_event, fall_back_to_stderr, format, from_environment };
