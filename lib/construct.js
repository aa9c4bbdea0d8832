// What the constructor is given: arguments by position, or one object instead; and what stands in another one's place.
// The constructor itself never throws: the first call that needs a lock does.
'use strict';

const { WITH_FIELDS, is_plain, wrong_type, wrong_value } = require('./arguments');
const { describe } = require('./errors');
const { CONSTRUCTOR_OPTIONS } = require('./options');

// The names of the positions.
const POSITIONS = ['by', 'host', 'port', 'heartbeat_interval', 'lock_ttl', 'log', 'password'];

const FORMS =
  'Pass new ReserveResource(by, host, port, heartbeat_interval, lock_ttl, log, password, options), ' +
  'or new ReserveResource({ by, host, port, heartbeat_interval, lock_ttl, log, password, ...options }).';

/** Whether the constructor was given one object alone, and not a worker's name. */
function is_one_object([given, ...others]) {
  try {
    return given !== null && others.every((one) => one === undefined) && is_plain(given);
  } catch (_) {
    // A Proxy that refuses to say.
    return false;
  }
}

/** { fields, options } of the one object that a constructor was given: its own members alone. */
function parts_of(given) {
  const fields = {};
  const options = {};
  try {
    for (const name of Object.keys(given)) (POSITIONS.includes(name) ? fields : options)[name] = given[name];
  } catch (error) {
    return { fields, options: unreadable(error) };
  }
  if (Object.keys(options).length === 0) return { fields, options: undefined };
  // Whoever looks for unknown names in it has to know the fields too.
  Object.defineProperty(options, WITH_FIELDS, { value: POSITIONS });
  return { fields, options };
}

/** Options that give `error` to whoever reads them: to the first call, for the constructor throws nothing. */
function unreadable(error) {
  return Object.defineProperty({}, 'max_hold', {
    enumerable: true,
    get() {
      throw error;
    },
  });
}

/** Throws for a log that is something else. */
function check_log({ metadata }) {
  if (typeof metadata === 'object') check_metadata(metadata);
  else if (metadata && typeof metadata !== 'function') {
    // Not shown: it may be the password, one place too early.
    throw wrong_type(
      `log must be a function, a logger, metadata for the lines, or false; it is of type ${typeof metadata}. ${FORMS}`,
    );
  }
}

/** Options in the place of the log would be metadata: no TLS, another database, and not a word about it. */
function check_metadata(metadata) {
  if (!is_plain(metadata)) return;
  const names = Object.keys(metadata);
  if (names.length === 0 || !names.every(is_option)) return;
  // By itself it is no option either: it goes with sentinels.
  if (names.length === 1 && names[0] === 'name') return;
  throw wrong_value(
    `log must not be options; it has ${names.join(', ')} and nothing else, so they would be metadata of its lines. ${FORMS}`,
  );
}

function is_option(name) {
  return name === 'password' || CONSTRUCTOR_OPTIONS.includes(name);
}

module.exports = { check_log, is_one_object, parts_of };
