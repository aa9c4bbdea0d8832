// What the constructor is given: arguments by position, or one object instead; and what stands in another one's place.
// The constructor itself never throws: the first call that needs a lock does.
'use strict';

const { WITH_FIELDS, is_plain, wrong_type, wrong_value } = require('./values');
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
  // Without a prototype, so that what somebody put there is in neither.
  const fields = Object.create(null);
  const options = Object.create(null);
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
  if (are_options(metadata)) {
    const names = Object.keys(metadata).join(', ');
    throw wrong_value(
      `log must not be options; it has ${names} and nothing else, which would be metadata of its lines. ${FORMS}`,
    );
  }
  if (typeof metadata !== 'object' && metadata && typeof metadata !== 'function') {
    // Not shown: it may be the password, one place too early.
    throw wrong_type(
      `log must be a function, a logger, metadata for the lines, or false; it is of type ${typeof metadata}. ${FORMS}`,
    );
  }
}

// What metadata may well have, and what is no option without others.
const UNTELLING = POSITIONS.filter((name) => name !== 'password').concat('name');
const KNOWN = POSITIONS.concat(CONSTRUCTOR_OPTIONS);

/** Options in the place of the log would be metadata: no TLS, another database, and not a word about it. */
function are_options(metadata) {
  try {
    if (typeof metadata !== 'object' || metadata === null || !is_plain(metadata)) return false;
    const names = Object.keys(metadata);
    return names.every((name) => KNOWN.includes(name)) && names.some((name) => !UNTELLING.includes(name));
  } catch (_) {
    // A Proxy that refuses to say.
    return false;
  }
}

module.exports = { are_options, check_log, is_one_object, parts_of };
