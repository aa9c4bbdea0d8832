// The log lines: kayvee's JSON, as 0.4.0 printed them, to wherever the `log` argument says; and the `logger` of an
// instance, with kayvee's methods. Whatever happens in here, nothing is thrown at the code that logs.
'use strict';

const { is_plain } = require('./arguments');
const { are_options } = require('./construct');
const { ReservationError } = require('./errors').classes;

const LEVELS = { debug: 0, info: 1, warning: 2, error: 3, critical: 4 };

// The methods that one line of each level may be given to, the best first: kayvee's, then those of other loggers.
const METHODS = {
  debug: ['debugD', 'infoD', 'debug', 'info'],
  info: ['infoD', 'info'],
  warning: ['warnD', 'infoD', 'warn', 'info'],
  error: ['errorD', 'infoD', 'error', 'info'],
  critical: ['criticalD', 'errorD', 'critical', 'error'],
};

// Read when the package is loaded, as kayvee does: it stands first in every line.
const { _DEPLOY_ENV } = process.env;

class Logger {
  /** `log` is the constructor's sixth argument, in any of its forms. */
  constructor(source, log) {
    this.formatter = format;
    this.logLvl = level_from(process.env.KAYVEE_LOG_LEVEL);
    this.globals = { source: shown(source) };
    if (process.env._DEPLOY_ENV) this.globals.deploy_env = process.env._DEPLOY_ENV;
    this.globals.via = 'node-redis-reservation';
    // Where whole lines go; null while `log` is an object that takes titles and events, or is silent.
    this.logWriter = null;
    this.logRouter = null;
    hide(this, 'target', null);
    // What this logger was made from, so that `follow` sees when the instance's fields are assigned anew.
    hide(this, 'source', source);
    hide(this, 'log', undefined);
    hide(this, 'redirected', false);
    this._use(log);
  }

  /** Takes lines to where `log` wants them; merges it into them where it is metadata. */
  _use(log) {
    const { globals, log: former } = this;
    if (is_metadata(former)) {
      for (const key of Object.keys(former)) if (globals[key] === former[key]) delete globals[key];
    }
    if (is_metadata(log)) Object.assign(globals, log);
    this.log = log;
    if (this.redirected) return;
    this.target = is_logger(log) ? log : null;
    this.logWriter = null;
    if (typeof log === 'function') this.logWriter = log;
    else if (log !== false && this.target === null) this.logWriter = to_console;
  }

  /** An instance's fields are read when they are used: `by` and `metadata` count as they are at each line. */
  _follow(instance) {
    const { by, metadata } = instance;
    if (by !== this.source) {
      if (this.globals.source === shown(this.source)) this.globals.source = shown(by);
      this.source = by;
    }
    if (metadata !== this.log) this._use(metadata);
  }

  setLogLevel(level) {
    this.logLvl = level_from(level);
    return this.logLvl;
  }

  /** From now on every line goes to `output`, as one string, whatever form `log` had. */
  setOutput(output) {
    this.redirected = true;
    this.logWriter = output;
    this.target = null;
    return output;
  }

  setFormatter(formatter) {
    this.formatter = formatter;
    return formatter;
  }

  setRouter(router) {
    this.logRouter = router;
  }

  setConfig(source, level, formatter, output) {
    this.globals.source = source;
    this.setLogLevel(level);
    this.setFormatter(formatter);
    return this.setOutput(output);
  }

  counter(title) {
    this.counterD(title, 1, {});
  }

  gauge(title, value) {
    this.gaugeD(title, value, {});
  }

  counterD(title, value, data) {
    this._logWithLevel('info', { title, value, type: 'counter' }, data);
  }

  gaugeD(title, value, data) {
    this._logWithLevel('info', { title, value, type: 'gauge' }, data);
  }

  /** kayvee's name for the one way that every line takes. */
  _logWithLevel(level, metadata, data) {
    if (LEVELS[level] < LEVELS[this.logLvl]) return;
    if (this.logWriter === null && this.target === null) return;
    const event = Object.assign({ level }, this.globals, metadata, data);
    if (this.logRouter) event._kvmeta = this.logRouter.route(event);
    if (this.target === null) harmless(this.logWriter(this.formatter(event)));
    else give(this.target, level, metadata.title, event);
  }
}

// debug and debugD, info and infoD, … are alike but for their level.
for (const [method, level] of [
  ['debug', 'debug'],
  ['info', 'info'],
  ['warn', 'warning'],
  ['error', 'error'],
  ['critical', 'critical'],
]) {
  hide(Logger.prototype, method, function plain(title) {
    this._logWithLevel(level, { title }, {});
  });
  hide(Logger.prototype, `${method}D`, function with_data(title, data) {
    this._logWithLevel(level, { title }, data);
  });
}

function hide(object, name, value) {
  Object.defineProperty(object, name, { value, writable: true, configurable: true, enumerable: false });
}

// Looked up at each line, so that a console that is replaced later, by a test or a supervisor, gets its lines.
function to_console(line) {
  // eslint-disable-next-line no-console -- the documented default.
  return console.log(line);
}

function level_from(level) {
  const name = typeof level === 'string' ? level.toLowerCase() : 'debug';
  return Object.prototype.hasOwnProperty.call(LEVELS, name) ? name : 'debug';
}

function is_object(value) {
  return typeof value === 'object' && value !== null;
}

/** Whether an object takes (title, event), and is not metadata for the lines. */
function is_logger(log) {
  return (
    is_object(log) && ['infoD', 'errorD', 'info', 'error'].some((name) => typeof log[name] === 'function')
  );
}

/** A worker's name. A literal in its place may be all that the constructor was to be given, secrets too. */
function shown(by) {
  return is_object(by) && is_plain(by) ? '[object Object]' : by;
}

function is_metadata(log) {
  // Options that stand in its place may hold secrets. The first call refuses them.
  return is_object(log) && !is_logger(log) && !are_options(log);
}

/** Hands one event to the best method that a logger has for its level. */
function give(logger, level, title, event) {
  const method = METHODS[level].find((name) => typeof logger[name] === 'function');
  if (method !== undefined) harmless(logger[method](title, event));
}

/** A log that writes to somewhere slow may return a promise; its failure is no more ours than an exception is. */
function harmless(returned) {
  if (is_object(returned) && typeof returned.then === 'function') returned.then(undefined, () => {});
}

/** One line. Keys keep their order; the environment's name stands first, where kayvee puts it. */
function format(event) {
  const fields = _DEPLOY_ENV ? Object.assign({ deploy_env: _DEPLOY_ENV }, event) : event;
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

/** The logger of an instance, for its `by` and `metadata` as they are now. */
function logger_for(instance) {
  return new Logger(instance.by, instance.metadata);
}

/** One line of ours. Goes through the instance's `logger`, so that one put there by somebody else gets it. */
function write(instance, level, title, data) {
  try {
    // Said once, for `log: false` is chosen where every microsecond counts.
    if (instance.metadata === false && !Object.prototype.hasOwnProperty.call(instance, 'logger')) return;
    const { logger } = instance;
    if (logger instanceof Logger) logger._follow(instance);
    if (is_object(logger) || typeof logger === 'function') give(logger, level, title, data);
  } catch (_) {
    // A log that throws never breaks a lock.
  }
}

/** How much the native side need tell: 0 nothing, 1 errors, 2 everything. */
function wanted_events(instance) {
  try {
    if (!Object.prototype.hasOwnProperty.call(instance, 'logger')) return instance.metadata === false ? 0 : 2;
    const { logger } = instance;
    if (!(logger instanceof Logger)) return logger == null ? 0 : 2;
    logger._follow(instance);
    if (logger.logWriter === null && logger.target === null) return 0;
    return LEVELS[logger.logLvl] > LEVELS.info ? 1 : 2;
  } catch (_) {
    return 2;
  }
}

const info = (instance, title, data) => write(instance, 'info', title, data);
const warn = (instance, title, data) => write(instance, 'warning', title, data);
const error = (instance, title, data) => write(instance, 'error', title, data);

/** What a failure adds to the log before the line of the call that met it. */
function connection_trouble(instance, failure) {
  if (!(failure instanceof ReservationError)) return;
  if (failure.code !== 'ERR_REDIS_CONNECTION' && failure.code !== 'ERR_REDIS_AUTH') return;
  error(instance, 'redis-error', { host: failure.host, port: failure.port, err: failure });
}

module.exports = { Logger, logger_for, info, warn, error, connection_trouble, wanted_events };
