// The constructor's arguments: by position, or as one object; and the check for options passed as `log`. The constructor
// never throws: the first call fails instead.
'use strict';

const { WITH_FIELDS, is_plain, wrong_type, wrong_value } = require('./values');
const { CONSTRUCTOR_OPTIONS } = require('./options');

// The names of the positional arguments.
const POSITIONS = ['by', 'host', 'port', 'heartbeat_interval', 'lock_ttl', 'log', 'password'];

const FORMS =
  'Pass new ReserveResource(by, host, port, heartbeat_interval, lock_ttl, log, password, options), ' +
  'or new ReserveResource({ by, host, port, heartbeat_interval, lock_ttl, log, password, ...options }).';

/** Whether the constructor was given one plain object and nothing else. */
function is_one_object([given, ...others]) {
  try {
    return given !== null && others.every((one) => one === undefined) && is_plain(given);
  } catch (_) {
    // A Proxy whose trap throws.
    return false;
  }
}

/** The one object as { fields, options }. Only its own members count. */
function parts_of(given) {
  // Without a prototype, so that a polluted Object.prototype is in neither.
  const fields = Object.create(null);
  const options = Object.create(null);
  try {
    for (const name of Object.keys(given)) (POSITIONS.includes(name) ? fields : options)[name] = given[name];
  } catch (error) {
    return { fields, options: unreadable(error) };
  }
  if (Object.keys(options).length === 0) return { fields, options: undefined };
  // The check for unknown options must know the fields' names too.
  Object.defineProperty(options, WITH_FIELDS, { value: POSITIONS });
  return { fields, options };
}

/** Options that throw `error` when they are read, which is in the first call: the constructor must not throw. */
function unreadable(error) {
  return Object.defineProperty({}, 'max_hold', {
    enumerable: true,
    get() {
      throw error;
    },
  });
}

/** Throws if `log` is options, or no log at all. */
function check_log({ metadata }) {
  if (are_options(metadata)) {
    const names = Object.keys(metadata).join(', ');
    throw wrong_value(
      `log must not be options; it has ${names} and nothing else, which would be metadata of its lines. ${FORMS}`,
    );
  }
  if (typeof metadata !== 'object' && metadata && typeof metadata !== 'function') {
    // The value is not shown: it may be the password, one position too early.
    throw wrong_type(
      `log must be a function, a logger, metadata for the lines, or false; it is of type ${typeof metadata}. ${FORMS}`,
    );
  }
}

// Names that metadata may well have. An object of these alone is metadata.
const AMBIGUOUS = POSITIONS.filter((name) => name !== 'password').concat('name');
const KNOWN = POSITIONS.concat(CONSTRUCTOR_OPTIONS);

/** Whether `log` is options. As metadata they would be ignored silently: no TLS, the wrong database. */
function are_options(metadata) {
  try {
    if (typeof metadata !== 'object' || metadata === null || !is_plain(metadata)) return false;
    const names = Object.keys(metadata);
    return names.every((name) => KNOWN.includes(name)) && names.some((name) => !AMBIGUOUS.includes(name));
  } catch (_) {
    // A Proxy whose trap throws.
    return false;
  }
}

module.exports = { are_options, check_log, is_one_object, parts_of };
