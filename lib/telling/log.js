// Log lines: which instance writes which, and the `logger` of an instance, with kayvee's methods. Logging never throws at the
// code that logs.
'use strict';

const { is_plain } = require('../arguments/values');
const { are_options } = require('../arguments/construct');
const { ReservationError } = require('../errors').classes;
const { define_non_enumerable } = require('../properties');
const {
  format,
  from_environment,
  give_event,
  is_logger,
  fall_back_to_stderr,
  write_line,
} = require('./loggers');

const LEVELS = { trace: 0, debug: 1, info: 2, warning: 3, error: 4, critical: 5 };

const VIA = 'node-redis-reservation';

class Logger {
  /** `log` is the constructor's sixth argument, in any of its forms. */
  constructor(source, log) {
    this.formatter = format;
    this.logLvl = level_from(process.env.KAYVEE_LOG_LEVEL);
    this.globals = { source: shown(source) };
    if (process.env._TEAM_OWNER) this.globals.team = process.env._TEAM_OWNER;
    Object.assign(this.globals, from_environment(), { via: VIA });
    // The function that gets whole lines; null if `log` is a logger, or silent.
    this.logWriter = null;
    this.logRouter = null;
    this.asyncLocalStorage = null;
    define_non_enumerable(this, 'target', null);
    // The fields that this logger was made from, so that `_follow` sees when they are assigned anew.
    define_non_enumerable(this, 'source', source);
    define_non_enumerable(this, 'log', undefined);
    define_non_enumerable(this, 'redirected', false);
    this._use(log);
  }

  /** Sends lines where `log` says. Metadata is merged into each line instead. */
  _use(log) {
    const { globals, log: former } = this;
    if (is_metadata(former)) {
      for (const key of Object.keys(former)) if (globals[key] === former[key]) delete globals[key];
    }
    if (is_metadata(log)) Object.assign(globals, log);
    this.log = log;
    if (this.redirected) return;
    this.target = is_object(log) && is_logger(log) ? log : null;
    this.logWriter = null;
    if (typeof log === 'function') this.logWriter = log;
    else if (log !== false && this.target === null) this.logWriter = to_console;
  }

  /** Adopts the instance's `by` and `metadata` as they are now: fields are read when they are used. */
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

  /** From now on every line goes to `output` as one string, whatever `log` is. */
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

  /** The store is a Map. Its `context`, an object or a Map, is merged into every line. */
  setAsyncLocalStorage(storage) {
    this.asyncLocalStorage = storage;
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

  /** Writes every line. The name is kayvee's. */
  _logWithLevel(level, metadata, data) {
    if (LEVELS[level] < LEVELS[this.logLvl]) return;
    if (this.logWriter === null && this.target === null) return;
    const event = Object.assign({ level }, this.globals, metadata, context_of(this.asyncLocalStorage), data);
    if (this.logRouter) event._kvmeta = this.logRouter.route(event);
    if (this.target === null) write_line(this.logWriter, event, this.formatter);
    else give_event(this.target, level, metadata.title, event, () => event);
  }
}

// debug and debugD, info and infoD, …: they differ only in their level.
for (const [method, level] of [
  ['trace', 'trace'],
  ['debug', 'debug'],
  ['info', 'info'],
  ['warn', 'warning'],
  ['error', 'error'],
  ['critical', 'critical'],
]) {
  define_non_enumerable(Logger.prototype, method, function plain(title) {
    this._logWithLevel(level, { title }, {});
  });
  define_non_enumerable(Logger.prototype, `${method}D`, function with_data(title, data) {
    this._logWithLevel(level, { title }, data);
  });
}

function context_of(storage) {
  const store = storage && storage.getStore();
  const context = store && store.get('context');
  return context instanceof Map ? Object.fromEntries(context) : context;
}

// console.log is looked up at each line, since a test or a process manager may replace it later.
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

/** A worker's name. A plain object in its place may hold all arguments, secrets too, so it is not shown. */
function shown(by) {
  return is_object(by) && is_plain(by) ? '[object Object]' : by;
}

function is_metadata(log) {
  // Options passed as `log` may hold secrets. The first call refuses them.
  return is_object(log) && !is_logger(log) && !are_options(log);
}

/** A new logger for an instance's `by` and `metadata` as they are now. */
function logger_for(instance) {
  return new Logger(instance.by, instance.metadata);
}

/** Writes one line of this package by the instance's `logger`, which the caller may have replaced. */
function write(instance, level, title, data) {
  const event = () => Object.assign({ level, source: instance.by, via: VIA, title }, data);
  try {
    // The quick way out: `log: false` is chosen where every microsecond counts.
    if (instance.metadata === false && !Object.prototype.hasOwnProperty.call(instance, 'logger')) return;
    const { logger } = instance;
    if (logger instanceof Logger) logger._follow(instance);
    // Ours goes by its public methods too: the caller may have replaced them.
    if (is_object(logger) || is_logger(logger)) give_event(logger, level, title, data, event);
    else if (typeof logger === 'function') write_line(logger, event(), format);
  } catch (reason) {
    // A getter threw: `logger` itself, or one of metadata.
    fall_back_to_stderr(instance, event, reason);
  }
}

/** Which events the native side should send: 0 none, 1 errors, 2 all. */
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

/** Logs `redis-error` for a failed connection or login, before the line of the call that failed. */
function connection_trouble(instance, failure) {
  if (!(failure instanceof ReservationError)) return;
  if (failure.code !== 'ERR_REDIS_CONNECTION' && failure.code !== 'ERR_REDIS_AUTH') return;
  error(instance, 'redis-error', { host: failure.host, port: failure.port, err: failure });
}

module.exports = { Logger, logger_for, info, warn, error, connection_trouble, wanted_events };
